"""A record that nobody has sealed is found wherever it is put, not only where a walk over the chains comes anyway."""

import pytest

from nofx_grpc.store.audit_verify import Kind
from tests.security.support import heads_of, on_driver
from tests.security.test_audit_verify import COPY, found, verify, written
from tests.store.support import Store


@pytest.mark.parametrize(("chain_id", "place"), [("", 1), ("", 13), (None, -(2**63)), ("\x01", -(2**63))])
def test_a_record_where_nobody_would_look_is_found(store: Store, chain_id: str | None, place: int) -> None:
    """In the chain before all others, or before all places of one."""
    with written(store) as (connection, heads):
        on_driver(connection, COPY, 99, 5)
        moved = heads[0].chain_id if chain_id is None else chain_id
        sql = "UPDATE audit_log SET chain_id = ?, chain_position = ?, principal = 'framed' WHERE chain_position = 99"
        on_driver(connection, sql, moved, place)
        kinds = {kind for kind, *_ in found(verify(store, connection, heads_of(store, heads)))}
        assert kinds == {Kind.CHANGED if place <= 1 else Kind.MISSING}
