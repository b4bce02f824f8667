"""`nofx-grpc serve`: the first start and the next, where it serves, and when it refuses to."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from tests.support import grpcurl
from tests.support.processes import ServerProcess, environment, run, serving

pytestmark = pytest.mark.e2e


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "a directory" / "data"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """The settings of a server whose certificate is for another name than that of this machine."""
    certificate = trustme.CA().issue_cert("config.example.org")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "server.key")
    return {"tls_cert": str(tmp_path / "server.pem"), "tls_key": str(tmp_path / "server.key")}


def run_printed_line(server: ServerProcess, directory: Path) -> "subprocess.CompletedProcess[str]":
    """Give the printed line to a shell, as it stands."""
    return grpcurl.run_line(server.printed[2], directory)


def check_printed_line(server: ServerProcess, directory: Path) -> None:
    ran = run_printed_line(server, directory)
    assert ran.returncode == 0, ran.stderr
    assert [found["id"] for found in json.loads(ran.stdout)["exchanges"]] == ["aster", "binance", "hyperliquid"]


def test_the_line_that_the_first_start_prints_works_as_it_stands(data_dir: Path, log: Path, tmp_path: Path) -> None:
    with serving(environment(data_dir), log) as server:
        check_printed_line(server, tmp_path)


def test_the_line_works_for_a_unix_socket(data_dir: Path, log: Path, tmp_path: Path) -> None:
    with serving(environment(data_dir, listen=f"unix:{tmp_path}/a socket"), log) as server:
        check_printed_line(server, tmp_path)
        assert run("health", env=server.env).returncode == 0
        assert stat.S_IMODE((tmp_path / "a socket").stat().st_mode) & 0o077 == 0


def test_the_line_works_for_tls(data_dir: Path, log: Path, tmp_path: Path, tls: dict[str, str]) -> None:
    with serving(environment(data_dir, listen="0.0.0.0:0", **tls), log) as server:
        check_printed_line(server, tmp_path)
        assert run("health", "--address", server.address, env=server.env).returncode == 0
        plaintext = environment(data_dir, listen=server.address)
        assert run("health", env=plaintext).returncode == 1


def test_the_first_start_lets_nobody_else_look(data_dir: Path, log: Path) -> None:
    with serving(environment(data_dir), log):
        modes = {str(path.relative_to(data_dir)): stat.S_IMODE(path.stat().st_mode) for path in data_dir.rglob("*")}
        directories = {str(path.relative_to(data_dir)) for path in data_dir.rglob("*") if path.is_dir()}
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert {modes.pop(directory) for directory in directories} == {0o700} and set(modes.values()) == {0o600}
    assert {f"tokens/{role}" for role in ("admin", "gateway", "engine", "viewer")} < modes.keys()


def test_a_token_file_holds_the_token_and_nothing_else(data_dir: Path, log: Path) -> None:
    with serving(environment(data_dir), log) as server:
        tokens = {server.token(role) for role in ("admin", "gateway", "engine", "viewer")}
    assert len(tokens) == 4 and all(token.startswith("nofx_") and token.split() == [token] for token in tokens)


def test_the_next_start_keeps_everything(data_dir: Path, log: Path, tmp_path: Path) -> None:
    def kept() -> dict[str, str]:
        return {str(path): path.read_text() for path in [data_dir / "master.key", *(data_dir / "tokens").iterdir()]}

    with serving(environment(data_dir), log) as server:
        server.stop()
    before = kept()
    with serving(environment(data_dir), log) as server:
        check_printed_line(server, tmp_path)
    assert kept() == before


def test_without_the_first_token_another_way_is_shown(data_dir: Path, log: Path) -> None:
    assert run("migrate", env=environment(data_dir)).returncode == 0
    (data_dir / "tokens" / "admin").unlink()
    with serving(environment(data_dir), log) as server:
        assert server.printed[1:] == ["Make a token:", "  nofx-grpc token create --role admin"]


def test_there_are_no_core_dumps(data_dir: Path, log: Path) -> None:
    with serving(environment(data_dir), log) as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
    assert "Max core file size        0                    0" in limits


_AS_SERVE = """
import ctypes
from nofx_grpc.lifecycle import protect_process
may_be_dumped = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
before = may_be_dumped()
protect_process()
print(before, may_be_dumped())
"""


def test_memory_and_environment_are_for_root_only() -> None:
    """Nor is the process dumped by a program that core dumps are piped to."""
    ran = subprocess.run([sys.executable, "-c", _AS_SERVE], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["1", "0"]


_FROZEN = """
import asyncio, gc, sys
from nofx_grpc import lifecycle
from nofx_grpc.settings import Settings

stopping = asyncio.Event()

def ready(address, mtls_address):
    print("frozen:", gc.get_freeze_count())
    stopping.set()

settings = Settings.load(None, {"NOFX_GRPC_DATA_DIR": sys.argv[1], "NOFX_GRPC_LISTEN": "127.0.0.1:0"})
asyncio.run(lifecycle.run(settings, stopping, ready))
"""


def test_no_collection_goes_through_what_the_start_has_made(data_dir: Path) -> None:
    """That would hold up all calls for tens of milliseconds, now and then; a worker's as well."""
    command = [sys.executable, "-c", _FROZEN, str(data_dir)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    [frozen] = [line.split()[1] for line in ran.stdout.splitlines() if line.startswith("frozen:")]
    assert int(frozen) > 10_000


def test_plaintext_beyond_loopback_is_refused(data_dir: Path) -> None:
    refused = run("serve", "--listen", "0.0.0.0:0", env=environment(data_dir))
    assert refused.returncode == 3 and refused.stdout == ""
    assert refused.stderr.startswith("nofx-grpc: NOFX_GRPC_LISTEN has value '0.0.0.0:0': expected a loopback address")
    assert not data_dir.exists()


def test_a_second_server_on_the_address_is_refused(data_dir: Path, log: Path, tmp_path: Path) -> None:
    with serving(environment(data_dir), log) as server:
        refused = run("serve", "--listen", server.address, env=environment(tmp_path / "other"))
        assert refused.returncode == 3
        assert f"nofx-grpc: cannot listen on {server.address}: another server is running there" in refused.stderr
        check_printed_line(server, tmp_path)


def test_a_second_server_on_a_unix_socket_is_refused(data_dir: Path, log: Path, tmp_path: Path) -> None:
    with serving(environment(data_dir, listen=f"unix:{tmp_path}/s"), log) as server:
        refused = run("serve", env=server.env)
        assert refused.returncode == 3
        assert f"nofx-grpc: cannot listen on unix:{tmp_path}/s: another server is running there" in refused.stderr
        check_printed_line(server, tmp_path)


def test_a_socket_that_a_killed_server_left_is_taken_over(data_dir: Path, log: Path, tmp_path: Path) -> None:
    env = environment(data_dir, listen=f"unix:{tmp_path}/s")
    with serving(env, log) as server:
        server.process.kill()
        server.wait()
    assert (tmp_path / "s").is_socket()
    with serving(env, log) as server:
        check_printed_line(server, tmp_path)


def test_a_file_in_place_of_the_socket_is_left_alone(data_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    refused = run("serve", env=environment(data_dir, listen=f"unix:{tmp_path}/precious"))
    assert refused.returncode == 3 and "is a file, and no socket" in refused.stderr
    assert (tmp_path / "precious").read_text() == "data"


# ---- the master key


def test_without_its_master_key_a_store_is_not_opened(data_dir: Path) -> None:
    assert run("migrate", env=environment(data_dir)).returncode == 0
    (data_dir / "master.key").unlink()
    refused = run("serve", env=environment(data_dir))
    assert refused.returncode == 3
    assert refused.stderr.startswith("nofx-grpc: there is no master key: set DATA_ENCRYPTION_KEY or NOFX_GRPC_MASTER_")
    assert not (data_dir / "master.key").exists()


def test_a_master_key_that_cannot_be_written(data_dir: Path) -> None:
    path = data_dir / "nowhere" / "master.key"
    refused = run("migrate", env=environment(data_dir) | {"NOFX_GRPC_MASTER_KEY_FILE": str(path)})
    assert (refused.returncode, refused.stderr) == (
        3,
        f"nofx-grpc: {path} cannot be written: No such file or directory\n",
    )


def test_a_lost_database_gets_no_new_master_key(data_dir: Path) -> None:
    assert run("migrate", env=environment(data_dir)).returncode == 0
    for path in (data_dir / "master.key", data_dir / "nofx.db"):
        path.unlink()
    refused = run("serve", env=environment(data_dir))
    assert refused.returncode == 3 and "there is no master key" in refused.stderr
    assert not (data_dir / "master.key").exists() and not (data_dir / "nofx.db").exists()


def test_another_master_key_is_refused(data_dir: Path) -> None:
    assert run("migrate", env=environment(data_dir)).returncode == 0
    refused = run("serve", env=environment(data_dir, DATA_ENCRYPTION_KEY="another-secret-text"))
    assert refused.returncode == 3 and "the master key does not open this database's keyring" in refused.stderr
    assert "another-secret-text" not in refused.stderr


def test_a_passphrase_is_warned_of(data_dir: Path) -> None:
    migrated = run("migrate", env=environment(data_dir, DATA_ENCRYPTION_KEY="correct horse"))
    assert migrated.returncode == 0 and "master_key_is_a_passphrase" in migrated.stderr
    assert "correct horse" not in migrated.stderr


def test_a_data_directory_open_to_others_is_warned_of(data_dir: Path) -> None:
    data_dir.mkdir(parents=True, mode=0o755)
    data_dir.chmod(0o755)
    migrated = run("migrate", env=environment(data_dir))
    assert migrated.returncode == 0
    assert json.loads(migrated.stderr.splitlines()[0])["event"] == "data_directory_open_to_others"
