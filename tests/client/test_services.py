"""The table of services is that of the protos, and its types are theirs."""

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any, assert_type

import pytest
from google.protobuf.descriptor import MethodDescriptor

from nofx_grpc.client import AsyncClient, Client
from nofx_grpc.client.rpcs import AsyncStream, ClientStream, Paged, Rpc, ServerStream, Stream, Unary
from nofx_grpc.client.services import Services
from nofx_grpc.v1 import beta_codes_pb2, traders_pb2, watch_pb2
from tests.support.rpcs import METHODS, SERVICES, path_of

TABLE: dict[str, Rpc] = {
    f"{type(service).__name__}.{rpc.method.name.split('/')[1]}": rpc
    for service in vars(Services[Any](None)).values()  # type: ignore[arg-type]  # nobody is called
    for rpc in vars(type(service)).values()
    if isinstance(rpc, Rpc)
}
EXPECTED = METHODS


def kind_of(rpc: MethodDescriptor) -> type[Rpc]:
    if rpc.client_streaming:
        return ClientStream
    if rpc.server_streaming:
        return ServerStream
    return Paged if "page_token" in rpc.input_type.fields_by_name else Unary


def test_every_rpc_is_in_the_table_and_nothing_else() -> None:
    assert set(TABLE) == set(EXPECTED)


def test_every_service_is_an_attribute_of_the_client() -> None:
    with Client(token="t") as nofx:
        names = {type(value).__name__ for value in vars(nofx).values()}
    assert {service.name for service in SERVICES} <= names


@pytest.mark.parametrize("name", EXPECTED)
def test_a_line_of_the_table_is_what_the_proto_says(name: str) -> None:
    rpc, line = EXPECTED[name], TABLE[name]
    assert type(line) is kind_of(rpc)
    assert line.method.path == path_of(rpc)
    assert line.method.request.DESCRIPTOR is rpc.input_type
    assert line.method.response.DESCRIPTOR is rpc.output_type


@pytest.mark.parametrize("name", [name for name, rpc in EXPECTED.items() if kind_of(rpc) is Paged])
def test_a_list_gives_what_its_pages_hold(name: str) -> None:
    line = TABLE[name]
    assert isinstance(line, Paged)
    page = line.method.response()
    listed = [field for field in page.DESCRIPTOR.fields if field.is_repeated]
    assert len(listed) == 1 and line.items(page) is getattr(page, listed[0].name)


def test_a_field_that_the_request_does_not_have_is_refused() -> None:
    with Client(token="t") as nofx, pytest.raises(ValueError, match='no "user" field'):
        nofx.traders.get_trader(user="ada")  # type: ignore[call-arg]  # so do type checkers


async def checked_by_mypy_only(nofx: Client, aio: AsyncClient) -> None:
    """What type checkers make of the table: each line here fails `make check` if it is anything else."""
    assert_type(nofx.traders.get_trader_config(user_id="ada", trader_id="t-1"), traders_pb2.TraderConfig)
    assert_type(await aio.traders.get_trader(user_id="ada", id="t"), traders_pb2.Trader)
    assert_type(nofx.traders.list_traders(page_size=1), traders_pb2.ListTradersResponse)
    assert_type(next(nofx.traders.list_traders.all(user_id="ada")), traders_pb2.Trader)
    assert_type(next(nofx.traders.list_trading_symbols.all()), str)
    assert_type(aio.traders.list_traders.all(), AsyncIterator[traders_pb2.Trader])
    assert_type(nofx.beta_codes.import_beta_codes([]), beta_codes_pb2.ImportBetaCodesResponse)
    assert_type(nofx.watch.watch(user_id="ada"), Stream[watch_pb2.WatchResponse])
    assert_type(next(nofx.traders.stream_trader_configs()), traders_pb2.StreamTraderConfigsResponse)
    assert_type(aio.traders.watch_trader_configs(), AsyncStream[traders_pb2.WatchTraderConfigsResponse])
    assert_type(await anext(aio.watch.watch()), watch_pb2.WatchResponse)
    nofx.watch.watch(kind=[])  # type: ignore[call-arg]  # it is `kinds`
    nofx.traders.get_trader(id=1)  # type: ignore[arg-type]  # ids are texts
    nofx.traders.list_traders.all(id="t")  # type: ignore[call-arg]  # a list has no id


def test_importing_the_client_imports_nothing_of_the_server() -> None:
    script = "import sys, nofx_grpc.client; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    ours = {name for name in imported if name.startswith("nofx_grpc.")}
    server = {"cli", "app", "rpc", "services", "store", "crypto", "settings", "errors", "logs"}
    assert {name for name in ours if name.split(".")[1] in server} == set()
    dear = {"alembic", "argon2", "bcrypt", "cryptography", "protovalidate", "pydantic", "rich", "sqlalchemy", "sqlite3"}
    assert {name for name in imported if name.split(".")[0] in dear | {"structlog", "typer", "uvloop"}} == set()
    assert "nofx_grpc.client.services" in ours
