"""Files that are read again while the server runs: whatever becomes of one, the next is looked at."""

import asyncio
from base64 import encodebytes
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from structlog.testing import capture_logs

from nofx_grpc.errors import SettingsError
from nofx_grpc.lifecycle import background
from nofx_grpc.pem import belong_together
from nofx_grpc.rpc.policy import Policy, load_policy, policy_file
from nofx_grpc.rpc.reloading import Reloading, keep_looking
from nofx_grpc.rpc.tls import load_material
from tests.support.certificates import Authority, grant, replace_file, spiffe


def key_on_an_odd_curve() -> bytes:
    """A private key that OpenSSL reads, and nobody here can use: P-256 with the number of prime239v1."""
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    odd = key.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030104"))
    return b"-----BEGIN PRIVATE KEY-----\n" + encodebytes(odd) + b"-----END PRIVATE KEY-----\n"


async def test_a_failure_of_any_kind_is_told_once_and_the_next_file_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "number"
    path.write_text("1")
    files = Reloading("a number", [path], lambda: 1 / int(path.read_text()))
    with capture_logs() as logs:
        looking = asyncio.create_task(keep_looking([files], 0.01))
        replace_file(path, "0")
        await _until(lambda: bool(logs))
        await asyncio.sleep(0.1)
        assert [(log["event"], log["what"], log["kept"]) for log in logs] == [
            ("reload_failed", "a number", "what was loaded before")
        ]
        assert files.value == 1
        replace_file(path, "2")
        await _until(lambda: files.value == 0.5)
    looking.cancel()


def test_what_could_not_be_read_for_a_moment_is_read_when_it_can_be(tmp_path: Path) -> None:
    """Nobody touches the file again, and it says that somebody has no rights any more."""
    path = tmp_path / "policy.toml"
    path.write_text(grant(spiffe("engine"), "engine"))
    trouble = [""]

    def load() -> Policy:
        if trouble[0]:
            raise SettingsError(trouble[0])
        return load_policy(path)

    policy = Reloading("mtls_policy", [path], load)
    replace_file(path, grant(spiffe("viewer"), "viewer"))
    with capture_logs() as logs:
        for trouble[0] in ("no file left", "no file left", "no file left", "no memory"):
            policy.look()
            assert policy.value.grant_of(spiffe("engine")) is not None
        trouble[0] = ""
        policy.look()
        assert policy.value.grant_of(spiffe("engine")) is None
        loaded = policy.value
        policy.look()
        assert policy.value is loaded
    assert [log.get("problem") for log in logs] == ["no file left", "no memory", None]


def test_a_policy_that_is_nested_too_deeply_is_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(grant(spiffe("engine"), "engine"))
    policy = policy_file(path)
    replace_file(path, "x = " + "[" * 5000)
    with capture_logs() as logs:
        policy.look()
        policy.look()
    assert [log["problem"] for log in logs] == [f"the policy file {path} is no policy: it is nested too deeply"]
    assert policy.value.grant_of(spiffe("engine")) is not None


def test_a_key_of_a_kind_that_is_not_supported_is_not_the_certificates(tmp_path: Path) -> None:
    odd = key_on_an_odd_curve()
    with pytest.raises(Exception) as caught:  # of which kind is what this is about
        load_pem_private_key(odd, password=None)
    assert not isinstance(caught.value, ValueError | TypeError)
    chain = Authority().server().pem
    assert not belong_together(chain, odd)
    replace_file(tmp_path / "server.pem", chain)
    replace_file(tmp_path / "server.key", odd)
    with pytest.raises(SettingsError, match="is not the private key"):
        load_material(tmp_path / "server.pem", tmp_path / "server.key", None)


async def test_work_in_the_background_that_fails_is_told() -> None:
    async def fails() -> None:
        raise RuntimeError("odd")

    async def goes_on() -> None:
        await asyncio.sleep(3600)

    with capture_logs() as logs:
        tasks = background(fails(), "what fails"), background(goes_on(), "what goes on")
        await asyncio.wait(tasks[:1])
        tasks[1].cancel()
        await asyncio.wait(tasks)
        await asyncio.sleep(0)
    assert [(log["event"], log["task"], str(log["exc_info"])) for log in logs] == [
        ("background_task_failed", "what fails", "odd")
    ]


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)
