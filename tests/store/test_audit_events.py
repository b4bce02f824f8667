"""Pages of the audit log are read by an index, whatever narrows them."""

from typing import Any

import pytest
from sqlalchemy import Connection, event

from nofx_grpc.store.audit_events import Listing
from tests.store.support import Store

AFTER = ("2026-01-02T03:04:05+00:00", "c", "1")


def plan(connection: Connection, listing: Listing, user_id: str, after: tuple[str, ...]) -> str:
    """How SQLite reads a page."""
    said: list[tuple[str, Any]] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        said.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", note)
    listing.page(connection, user_id=user_id, after=after, limit=10)
    event.remove(connection, "before_cursor_execute", note)
    ((statement, parameters),) = said
    return str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall())


@pytest.mark.parametrize("engine", ["sqlite"])
@pytest.mark.parametrize("after", [(), AFTER])
@pytest.mark.parametrize(
    ("listing", "user_id", "index"),
    [
        (Listing(), "", "ix_audit_log_at"),
        (Listing(principal="p"), "", "ix_audit_log_principal_at"),
        (Listing(method="m"), "", "ix_audit_log_method_at"),
        (Listing(), "u", "ix_audit_log_user_id_at"),
        (Listing(outcome="DENIED"), "", "ix_audit_log_outcome_at"),
        (Listing(resource="r", method="m"), "", "ix_audit_log_method_at"),
    ],
)
def test_a_page_is_read_by_an_index(
    store: Store, listing: Listing, user_id: str, index: str, after: tuple[str, ...]
) -> None:
    with store.outside() as connection:
        found = plan(connection, listing, user_id, after)
        assert f"USING INDEX {index}" in found, found
        assert "FOR ORDER BY" not in found, "only records of the same moment are sorted"
