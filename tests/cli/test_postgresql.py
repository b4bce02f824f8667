"""The command over PostgreSQL: the same as over SQLite, and the ways in which a database on another machine fails."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from nofx_grpc.store.postgresql_url import parameters_of
from nofx_grpc.store.schema import newest_version
from tests.store.support import empty_postgresql
from tests.support.certificates import DNS, Authority
from tests.support.outside import rows
from tests.support.postgresql import database_of, shared_server
from tests.support.processes import environment, run, serving
from tests.support.tls_front import TlsFront, tls_front

pytestmark = pytest.mark.e2e

HOST = "db.example.org"
SERVER = ExtendedKeyUsageOID.SERVER_AUTH


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Over a database that is empty."""
    with empty_postgresql() as url:
        yield environment(tmp_path / "data") | {"NOFX_GRPC_DATABASE_URL": url}


def test_from_an_empty_database_to_a_server_and_a_token(env: dict[str, str], tmp_path: Path) -> None:
    server = shared_server()
    report = {
        "database": f"postgresql://{server.socket_dir}/{database_of(env['NOFX_GRPC_DATABASE_URL'])}",
        "schema": newest_version(),
    }
    assert json.loads(run("migrate", "--json", env=env).stdout) == report | {"was": "new"}
    assert json.loads(run("migrate", "--json", env=env).stdout) == report | {"was": "current"}
    with serving(env, tmp_path / "log") as running:
        assert run("health", "--address", running.address, env=env).stdout == "SERVING\n"
        made = json.loads(run("token", "create", "--role", "engine", "--json", env=env).stdout)
        assert made["role"] == "engine"
        assert running.stop() == 0
    assert rows(env, "SELECT role FROM tokens WHERE bootstrap ORDER BY role") == [
        ("admin",), ("engine",), ("gateway",), ("viewer",),
    ]  # fmt: skip
    assert rows(env, "SELECT id FROM tokens WHERE NOT bootstrap") == [(made["id"],)]


def test_a_nofx_database_is_adopted_to_sqlite_first(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "config.db").touch()
    refused = run("adopt", str(tmp_path / "config.db"), env=env)
    assert refused.returncode == 3 and "not to postgresql://" in refused.stderr
    assert "--to sqlite:///path, then run 'nofx-grpc copy-db'" in refused.stderr


def test_a_server_that_is_not_there(env: dict[str, str]) -> None:
    url = "postgresql+psycopg://nofx:hunter2@127.0.0.1:1/nofx"
    refused = run("serve", env=env | {"NOFX_GRPC_DATABASE_URL": url})
    assert refused.returncode == 3 and "postgresql://127.0.0.1:1/nofx cannot be opened: " in refused.stderr
    assert "Connection refused" in refused.stderr and "Traceback" not in refused.stderr
    assert "hunter2" not in refused.stderr


def test_of_several_hosts_the_one_that_may_be_written_is_found(env: dict[str, str], tmp_path: Path) -> None:
    socket_dir, database = shared_server().socket_dir, database_of(env["NOFX_GRPC_DATABASE_URL"])
    url = f"postgresql+psycopg://postgres@/{database}?host=127.0.0.1,{socket_dir}&port=1,5432"
    with serving(env | {"NOFX_GRPC_DATABASE_URL": url}, tmp_path / "log") as running:
        shared_server().end_sessions(database)
        assert json.loads(run("token", "create", "--role", "viewer", "--json", env=running.env).stdout)["id"]
        assert running.stop() == 0


# ---- TLS


@pytest.fixture
async def fronts(tmp_path: Path) -> AsyncIterator[dict[str, TlsFront]]:
    """PostgreSQL behind a good certificate, one for another name, one by another authority, and none."""
    ours, another = Authority("ours"), Authority("another")
    (tmp_path / "ca.pem").write_bytes(ours.pem)
    certificates = {
        "good": ours.issue(DNS(HOST), usage=SERVER).write(tmp_path, "good"),
        "another name": ours.issue(DNS("db.example.com"), usage=SERVER).write(tmp_path, "name"),
        "another authority": another.issue(DNS(HOST), usage=SERVER).write(tmp_path, "authority"),
        "none": None,
    }
    async with AsyncExitStack() as stack:
        made = {
            name: await stack.enter_async_context(tls_front(shared_server().socket_dir, files))
            for name, files in certificates.items()
        }
        yield made


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ("good", ""),
        ("another name", 'server certificate for "db.example.com" does not match host name "db.example.org"'),
        ("another authority", "certificate verify failed"),
        ("none", "server does not support SSL, but SSL was required"),
    ],
)
async def test_the_database_of_another_machine_must_show_a_good_certificate(
    env: dict[str, str], tmp_path: Path, fronts: dict[str, TlsFront], certificate: str, words: str
) -> None:
    front, database = fronts[certificate], database_of(env["NOFX_GRPC_DATABASE_URL"])
    url = f"postgresql+psycopg://postgres@{HOST}:{front.port}/{database}?sslrootcert={tmp_path}/ca.pem"
    # The host's address is given beside its name, for the name is nobody's; and so is the mode that the name has by
    # itself, for the address is local.
    url += f"&hostaddr=127.0.0.1&sslmode={parameters_of(url)['sslmode']}"
    ran = await asyncio.to_thread(run, "migrate", env=env | {"NOFX_GRPC_DATABASE_URL": url})
    assert front.plain == 0, "nothing is sent in clear"
    if not words:
        assert ran.returncode == 0 and front.encrypted > 0, ran.stderr
    else:
        assert ran.returncode == 3 and words in ran.stderr and "Traceback" not in ran.stderr
        assert rows(env, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
