"""Addresses to serve on: which are accepted, and which of them only this machine can reach."""

import pytest

from nofx_grpc.address import check_address, is_local


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:50051", True),
        ("127.8.8.8:1", True),
        ("localhost:0", True),
        ("[::1]:65535", True),
        ("unix:/run/nofx-grpc.sock", True),
        ("unix:nofx-grpc.sock", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.1:50051", False),
        ("traders.example.com:50051", False),
        ("localhost.example.com:50051", False),
    ],
)
def test_addresses(address: str, local: bool) -> None:
    assert check_address(address) == address
    assert is_local(address) is local


@pytest.mark.parametrize(
    "address",
    [
        "", "abc", "50051", ":50051", "localhost:", "localhost:http", "localhost:65536", "localhost:-1", "localhost:٣",
        "::1:50051", "[::1]", "[::1", "[localhost]:1", "[]:1", "a b:1", "http://localhost:1", "user@localhost:1",
    ],
)  # fmt: skip
def test_what_is_not_an_address(address: str) -> None:
    with pytest.raises(ValueError, match=r"^host:port or unix:path$"):
        check_address(address)


@pytest.mark.parametrize("address", ["unix:", "unix:/" + "x" * 107])
def test_the_path_of_a_socket_has_a_limit(address: str) -> None:
    with pytest.raises(ValueError, match="a path of 1 to 107 bytes"):
        check_address(address)
