"""`nofx-grpc migrate`: brings the database to the schema of this release, as `serve` does when it starts."""

from nofx_grpc.app import database_backend, inspect_database, open_database, utc_now
from nofx_grpc.settings import Settings
from nofx_grpc.store.schema import SchemaState, version_of

_WAS = {SchemaState.NEW: "new", SchemaState.OLD: "old", SchemaState.CURRENT: "current", SchemaState.NEWER: "newer"}


def run(settings: Settings) -> dict[str, object]:
    """Migrate, and report what the database was before and is now.  Raises StartError."""
    was = inspect_database(settings)
    open_database(settings, utc_now)
    backend = database_backend(settings)
    return {"database": backend.describe(), "was": _WAS[was], "schema": version_of(backend)}
