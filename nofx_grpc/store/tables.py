"""Every table, imported once so that `metadata` knows them all, and every column that holds sealed text."""

from typing import Any

from nofx_grpc.store import (
    audit,
    beta_codes,
    exchanges,
    history,
    keys,
    known_callers,
    login_tokens,
    login_tries,
    models,
    processes,
    request_ids,
    revisions,
    set_aside,
    signal_sources,
    system_config,
    tokens,
    traders,
    users,
)
from nofx_grpc.store.decisions import tables as decision_tables
from nofx_grpc.store.metadata import Timestamped, metadata
from nofx_grpc.store.resources import Resource

__all__ = ["CONTENT", "INTERNAL_TABLES", "OF_THE_PLACE", "RESOURCES", "SECRET_COLUMNS", "TIMESTAMPED", "metadata"]

RESOURCES: tuple[Resource[Any], ...] = (
    users.resource,
    models.resource,
    exchanges.resource,
    signal_sources.resource,
    traders.resource,
    system_config.resource,
    beta_codes.resource,
)

# (table, column) of every secret.  system_config.value is sealed only for the keys that are secret.
SECRET_COLUMNS: tuple[tuple[str, str], ...] = tuple(
    (resource.table.name, column) for resource in RESOURCES for column in resource.secrets
)

INTERNAL_TABLES = (
    decision_tables.decision_bodies,
    decision_tables.decision_logs,
    decision_tables.decisions,
    decision_tables.removed_decisions,
    decision_tables.unreadable_decisions,
    audit.audit_anchors,
    audit.audit_log,
    history.database_timeline,
    keys.keyring,
    keys.master_key,
    known_callers.known_callers,
    login_tokens.spent_login_tokens,
    login_tries.login_tries,
    processes.processes,
    request_ids.request_ids,
    revisions.change_log,
    revisions.store_state,
    set_aside.set_aside,
    tokens.tokens,
)

# What tells of the place where a database is and of who serves it, and is not copied to another.
OF_THE_PLACE = (history.database_timeline, processes.processes)

CONTENT = [table for table in metadata.sorted_tables if table not in OF_THE_PLACE]

TIMESTAMPED = tuple(
    Timestamped(table.name, tuple(column.name for column in table.primary_key), "rewrites" in table.c)
    for table in (
        users.users,
        models.ai_models,
        exchanges.exchanges,
        signal_sources.user_signal_sources,
        traders.traders,
        system_config.system_config,
        beta_codes.beta_codes,
    )
)
