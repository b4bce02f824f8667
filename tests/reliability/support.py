"""What must be so after every fault."""

from tests.support.cluster import Node
from tests.support.load import Load


def check(node: Node, load: Load) -> None:
    """What was acknowledged is there, nothing twice, nothing by half, and no gap."""
    made = dict(node.execute("SELECT id, revision FROM change_log WHERE kind = 'exchange' AND operation = 'create'"))
    missing = {id for id, revision in load.acknowledged.items() if made.get(id) != revision}
    assert not missing, f"{len(missing)} of {len(load.acknowledged)} acknowledged writes are lost"
    # Nothing in the request says which code is made: a repeat that was done again has made another one.
    codes = {code for (code,) in node.execute("SELECT code FROM beta_codes")}
    assert codes == set(load.codes), f"{len(codes)} made for {len(load.codes)} answers"
    ((gaps,),) = node.execute("SELECT max(revision) - count(DISTINCT revision) FROM change_log")
    ((first,),) = node.execute("SELECT min(revision) - 1 FROM change_log")
    assert gaps == first
    ((applied,),) = node.execute("SELECT count(*) FROM exchanges WHERE id LIKE 'first-%' AND user_id = 'default'")
    assert applied == len(made)
