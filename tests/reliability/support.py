"""What must be so after every fault."""

from collections import Counter

from tests.support.cluster import Node
from tests.support.load import Load


def check(node: Node, load: Load, *, lost: int = 0) -> None:
    """What was acknowledged is there, but for so many; nothing twice, nothing by half, and no gap."""
    rows = node.execute("SELECT id, revision FROM change_log WHERE kind = 'exchange' AND operation = 'create'")
    made = dict(rows)
    twice = {id: times for id, times in Counter(id for id, _ in rows).items() if times > 1}
    assert twice == {}
    missing = {id for id, revision in load.acknowledged.items() if made.get(id) != revision}
    assert len(missing) == lost, f"{len(missing)} of {len(load.acknowledged)} acknowledged writes are lost"
    ((gaps,),) = node.execute("SELECT max(revision) - count(DISTINCT revision) FROM change_log")
    ((first,),) = node.execute("SELECT min(revision) - 1 FROM change_log")
    assert gaps == first
    ((applied,),) = node.execute("SELECT count(*) FROM exchanges WHERE id LIKE 'first-%' AND user_id = 'default'")
    assert applied == len(made)
