"""Tokens, certificates and the environment: what a client is made of, and that it keeps it to itself."""

import os
import traceback
from pathlib import Path

import grpc
import pytest
import trustme

from nofx_grpc.client import Client, ClientSettingsError, errors
from nofx_grpc.client.connection import Connection, settings_of
from nofx_grpc.client.credentials import Certificates, GivenToken, TokenFile
from tests.client.support import AnyClient, ask, close
from tests.client.wire import wire
from tests.support.service import RunningService, running_service

SECRET = "nofx_s3cr3t-t0k3n"


def put(path: Path, text: str) -> None:
    """Replace a file as it is done where it must never be half there."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def test_a_token_is_read_again_when_its_file_changes(
    service: RunningService, kind: type[AnyClient], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    put(file, service.token("viewer") + "\n")
    nofx = kind(service.address, token_file=file)
    with pytest.raises(errors.PermissionDenied):
        await ask(nofx, lambda c: c.admin.list_tokens())
    put(file, service.token("admin"))
    await ask(nofx, lambda c: c.admin.list_tokens())
    await close(nofx)


def test_a_token_file_that_is_being_replaced_leaves_the_token_from_before(tmp_path: Path) -> None:
    file = tmp_path / "token"
    put(file, "first")
    token = TokenFile(file)
    file.unlink()
    assert token.header() == "Bearer first"
    put(file, "")
    assert token.header() == "Bearer first"
    put(file, "two words")
    assert token.header() == "Bearer first"
    put(file, "second")
    assert token.header() == "Bearer second"


def test_a_token_file_that_stays_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    put(file, "first")
    token = TokenFile(file)
    put(file, "second")
    assert token.header() == "Bearer second"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: pytest.fail("read again"))
    assert [token.header() for _ in range(3)] == ["Bearer second"] * 3


def test_a_token_file_that_holds_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClientSettingsError, match=r"token_file '.*missing' cannot be read: No such file"):
        TokenFile(tmp_path / "missing")
    put(tmp_path / "token", f"{SECRET} {SECRET}")
    with pytest.raises(ClientSettingsError, match="expected a token") as caught:
        TokenFile(tmp_path / "token")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("text", ["", " ", f"{SECRET}\n{SECRET}", f"{SECRET} ", f"{SECRET}é", f"{SECRET}\0"])
def test_what_cannot_be_a_token_is_refused_and_not_shown(text: str) -> None:
    if text == f"{SECRET} ":  # blanks around a token do no harm
        assert GivenToken(text).header() == f"Bearer {SECRET}"
        return
    with pytest.raises(ClientSettingsError) as caught:
        Client(token=text)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_client_does_not_show_its_token(tmp_path: Path) -> None:
    put(tmp_path / "token", SECRET)
    for nofx in (Client(token=SECRET), Client(token_file=tmp_path / "token")):
        shown = [nofx, nofx.with_options(timeout=1), nofx._policy, *vars(nofx).values(), nofx.traders.get_trader]
        assert [each for each in shown if SECRET in repr(each) or SECRET in str(each)] == []
        nofx.close()
    assert repr(nofx).startswith("Client('127.0.0.1:50051', token=<from ")


async def test_an_error_does_not_show_the_token(kind: type[AnyClient]) -> None:
    async with wire(grpc.StatusCode.PERMISSION_DENIED) as server:
        nofx = kind(server.address, token=SECRET)
        with pytest.raises(errors.PermissionDenied) as caught:
            await ask(nofx, lambda c: c.users.list_users())
        await close(nofx)
    cause = caught.value.__cause__
    assert SECRET not in "".join(traceback.format_exception(caught.value)) + repr(cause) + str(cause)


def test_a_client_has_one_credential_at_most() -> None:
    with pytest.raises(ClientSettingsError, match="token and token_file are both given"):
        Client(token="t", token_file="t")


@pytest.mark.parametrize(
    ("env", "address"),
    [
        ({}, "127.0.0.1:50051"),
        ({"NOFX_GRPC_ADDRESS": "nofx.example:443", "NOFX_GRPC_LISTEN": "127.0.0.1:1"}, "nofx.example:443"),
        ({"NOFX_GRPC_ADDRESS": "", "NOFX_GRPC_LISTEN": "127.0.0.1:1"}, "127.0.0.1:1"),
        ({"NOFX_GRPC_LISTEN": "0.0.0.0:50052"}, "127.0.0.1:50052"),
        ({"NOFX_GRPC_LISTEN": "unix:/run/nofx"}, "unix:/run/nofx"),
    ],
)
def test_the_address_comes_from_the_environment(env: dict[str, str], address: str) -> None:
    assert settings_of({"NOFX_GRPC_TOKEN": "t", **env})["address"] == address


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({}, "no credential: set NOFX_GRPC_TOKEN_FILE, or NOFX_GRPC_TOKEN"),
        ({"NOFX_GRPC_TOKEN": ""}, "no credential"),
        ({"NOFX_GRPC_TOKEN": SECRET, "NOFX_GRPC_TOKEN_FILE": "t"}, "are both set: set one of them"),
        (
            {"NOFX_GRPC_TOKEN": SECRET, "NOFX_GRPC_ADDRESS": "abc"},
            "NOFX_GRPC_ADDRESS has value 'abc': expected host:port or unix:path",
        ),
        ({"NOFX_GRPC_TOKEN": SECRET, "NOFX_GRPC_LISTEN": "127.0.0.1:0"}, "has no port"),
        ({"NOFX_GRPC_TOKEN": SECRET, "NOFX_GRPC_CA_FILE": "/none"}, "ca_file '/none' cannot be read"),
        ({"NOFX_GRPC_TOKEN": SECRET, "NOFX_GRPC_CLIENT_CERT_FILE": "/none"}, "client_key_file belong together"),
    ],
)
def test_an_environment_that_makes_no_client_is_told_what_is_wrong(env: dict[str, str], words: str) -> None:
    with pytest.raises(ClientSettingsError, match=words) as caught:
        Client.from_env(env)
    assert SECRET not in str(caught.value)


async def test_a_client_is_made_from_the_environment(
    service: RunningService, kind: type[AnyClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("NOFX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NOFX_GRPC_ADDRESS", service.address)
    monkeypatch.setenv("NOFX_GRPC_TOKEN_FILE", str(service.data_dir / "tokens" / "admin"))
    nofx = kind.from_env(timeout=3.0)
    assert "timeout=3.0" in repr(nofx)
    await ask(nofx, lambda c: c.users.list_users())
    await close(nofx)


def test_plaintext_is_for_this_machine_only() -> None:
    plain = {
        address: Connection.to(address, Certificates()).credentials is None
        for address in ("127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/run/nofx", "nofx.example:1", "10.0.0.1:1")
    }
    assert [address for address, is_plain in plain.items() if not is_plain] == ["nofx.example:1", "10.0.0.1:1"]


async def test_tls_with_a_certificate_authority_of_ones_own(tmp_path: Path, kind: type[AnyClient]) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    env = {"NOFX_GRPC_TLS_CERT": str(tmp_path / "cert.pem"), "NOFX_GRPC_TLS_KEY": str(tmp_path / "key.pem")}
    async with running_service(tmp_path / "data", env=env) as service:
        trusting = kind(service.address, token=service.token("admin"), ca_file=tmp_path / "ca.pem")
        await ask(trusting, lambda c: c.users.list_users())
        await close(trusting)
        trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
        wary = kind(service.address, token=SECRET, ca_file=tmp_path / "other.pem", timeout=0.5)
        with pytest.raises(errors.Unavailable):
            await ask(wary, lambda c: c.users.list_users())
        await close(wary)


async def test_a_client_shows_its_certificate(tmp_path: Path, kind: type[AnyClient]) -> None:
    authority = trustme.CA()
    server, own = authority.issue_cert("127.0.0.1"), authority.issue_cert("engine.example")
    for name, blob in [("ca", authority.cert_pem), ("key", own.private_key_pem), ("cert", own.cert_chain_pems[0])]:
        blob.write_to_path(tmp_path / f"{name}.pem")
    pair = (server.private_key_pem.bytes(), server.cert_chain_pems[0].bytes())
    credentials = grpc.ssl_server_credentials([pair], authority.cert_pem.bytes(), require_client_auth=True)
    async with wire(lambda _: b"", credentials=credentials) as mutual:
        ca = tmp_path / "ca.pem"
        known = kind(
            mutual.address, ca_file=ca, client_cert_file=tmp_path / "cert.pem", client_key_file=tmp_path / "key.pem"
        )
        await ask(known, lambda c: c.users.list_users())
        await close(known)
        unknown = kind(mutual.address, ca_file=ca, timeout=0.5)
        with pytest.raises(errors.Unavailable):
            await ask(unknown, lambda c: c.users.list_users())
        await close(unknown)
