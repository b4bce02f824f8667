"""What commands that talk to a server take from the environment, and what becomes of their errors."""

import asyncio
from pathlib import Path

import pytest

from nofx_grpc.cli.remote import connected, with_local_defaults
from nofx_grpc.cli.reports import CommandFailed
from tests.support.service import RunningService


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory with the first tokens."""
    (tmp_path / "tokens").mkdir()
    for role in ("admin", "viewer"):
        (tmp_path / "tokens" / role).write_text(f"nofx_{role}")
    return tmp_path


def defaults(env: dict[str, str], role: str = "viewer") -> dict[str, str]:
    """What is added to an environment."""
    found = with_local_defaults(env, role)
    return {name: value for name, value in found.items() if env.get(name) != value}


@pytest.mark.parametrize("role", ["admin", "viewer"])
@pytest.mark.parametrize("address", ["", "127.0.0.1:1", "unix:/run/nofx", "[::1]:1", "localhost:1"])
def test_the_first_token_of_the_role_is_used_on_this_machine(data: Path, role: str, address: str) -> None:
    env = {"NOFX_GRPC_DATA_DIR": str(data), "NOFX_GRPC_ADDRESS": address}
    assert defaults(env, role) == {"NOFX_GRPC_TOKEN_FILE": str(data / "tokens" / role)}


@pytest.mark.parametrize("name", ["NOFX_GRPC_TOKEN", "NOFX_GRPC_TOKEN_FILE", "NOFX_GRPC_CLIENT_CERT_FILE"])
def test_a_credential_of_the_environment_is_left_alone(data: Path, name: str) -> None:
    assert defaults({"NOFX_GRPC_DATA_DIR": str(data), name: "given"}) == {}


@pytest.mark.parametrize("address", ["nofx.example:443", "10.0.0.1:50051", "not an address"])
def test_nothing_of_this_machine_goes_to_another_one(data: Path, address: str) -> None:
    env = {"NOFX_GRPC_DATA_DIR": str(data), "NOFX_GRPC_ADDRESS": address, "NOFX_GRPC_TLS_CERT": "server.pem"}
    assert defaults(env) == {}


def test_the_address_is_what_the_client_takes(data: Path) -> None:
    env = {"NOFX_GRPC_DATA_DIR": str(data), "NOFX_GRPC_ADDRESS": "far.example:1", "NOFX_GRPC_LISTEN": "127.0.0.1:1"}
    assert defaults(env) == {}
    assert defaults(env | {"NOFX_GRPC_ADDRESS": ""}) != {}
    assert defaults({"NOFX_GRPC_DATA_DIR": str(data), "NOFX_GRPC_LISTEN": "0.0.0.0:1"}) != {}


def test_the_servers_certificate_is_believed(data: Path) -> None:
    env = {"NOFX_GRPC_TOKEN": "t", "NOFX_GRPC_TLS_CERT": "server.pem"}
    assert defaults(env) == {"NOFX_GRPC_CA_FILE": "server.pem"}
    assert defaults(env | {"NOFX_GRPC_CA_FILE": "ca.pem"}) == {}


def test_without_a_credential_the_command_says_what_to_set(tmp_path: Path) -> None:
    env = {"NOFX_GRPC_DATA_DIR": str(tmp_path)}
    with (
        pytest.raises(CommandFailed, match="no credential: set NOFX_GRPC_TOKEN_FILE") as caught,
        connected("admin", env),
    ):
        pass
    assert (caught.value.reason, caught.value.exit_code) == ("SETTINGS_ERROR", 3)


async def test_an_error_of_a_call_is_the_commands(service: RunningService) -> None:
    env = {"NOFX_GRPC_ADDRESS": service.address, "NOFX_GRPC_DATA_DIR": str(service.data_dir)}

    def ask() -> None:
        with connected("viewer", env) as nofx:
            nofx.admin.list_tokens()

    with pytest.raises(CommandFailed, match="needs the permission ADMIN") as caught:
        await asyncio.to_thread(ask)
    assert (caught.value.reason, caught.value.exit_code) == ("PERMISSION_DENIED", 1)
