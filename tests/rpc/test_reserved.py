"""The address that a parent holds for its workers."""

import socket
from typing import Any

import pytest

from nofx_grpc.errors import StartError
from nofx_grpc.rpc.listening import reserved

SHARED = socket.AF_INET, socket.SOCK_STREAM, 6, ""


def listening(address: str, *, shared: bool) -> socket.socket:
    """What a worker does, or a server that is none of ours."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    host, _, port = address.rpartition(":")
    try:
        made.bind((host, int(port)))
        made.listen()
    except OSError:
        made.close()
        raise
    return made


def stand_for(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every name stand for these addresses."""

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(*SHARED, (address, port)) for address in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_workers_share_it_and_nobody_else_gets_it() -> None:
    with (
        reserved("127.0.0.1:0") as address,
        listening(address, shared=True),
        listening(address, shared=True),
        pytest.raises(OSError, match="in use"),
    ):
        listening(address, shared=False)


def test_another_parent_is_refused_before_and_after_there_are_workers() -> None:
    with reserved("127.0.0.1:0") as address:
        for _ in range(2):
            with (
                pytest.raises(StartError, match=f"cannot listen on {address}: another server is running there"),
                reserved(address),
            ):
                pass
            listening(address, shared=True).close()
    with reserved(address) as again:
        assert again == address


def test_it_is_refused_where_somebody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(StartError, match="another server is running there"), reserved(address):
            pass


def test_all_addresses_of_a_name_are_held_at_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.1")
    with reserved("name:0") as address:
        assert address.startswith("name:")
        for host in ("127.0.0.1", "127.0.0.2"):
            worker = address.replace("name", host)
            with listening(worker, shared=True), pytest.raises(StartError), reserved(worker):
                pass


def test_an_address_that_is_not_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign"), reserved("192.0.2.1:0"):
        pass
    stand_for(monkeypatch, "192.0.2.1", "127.0.0.1")
    with reserved("name:0") as address, listening(address.replace("name", "127.0.0.1"), shared=True):
        pass


def test_a_name_that_stands_for_nothing() -> None:
    with pytest.raises(StartError, match=r"cannot listen on nowhere\.invalid:0: "), reserved("nowhere.invalid:0"):
        pass
