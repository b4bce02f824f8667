"""Where decision records are files of one server, and the database is for several, whoever starts it is told."""

from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from nofx_grpc.app import decision_keeping
from nofx_grpc.settings import Settings
from tests.support.clock import FakeClock

POSTGRESQL = {"NOFX_GRPC_DATABASE_URL": "postgresql+psycopg://nofx@db.example/nofx"}


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({}, False),
        (POSTGRESQL, True),
        (POSTGRESQL | {"NOFX_GRPC_DECISION_LOGS": "database"}, False),
        (POSTGRESQL | {"NOFX_GRPC_DECISION_LOGS_DIR": "/shared/logs"}, False),
    ],
)
def test_files_of_one_server_are_warned_of(env: dict[str, str], told: bool, clock: FakeClock, tmp_path: Path) -> None:
    settings = Settings.load(None, {"NOFX_GRPC_DATA_DIR": str(tmp_path)} | env)
    with capture_logs() as logged:
        decision_keeping(settings, cast("Any", None), clock)
    assert ("decision_logs_of_one_server" in [entry["event"] for entry in logged]) == told
