"""The Python client of nofx-grpc: nothing of the server is imported here.

from nofx_grpc.client import Client, errors

with Client.from_env() as nofx:
    try:
        config = nofx.traders.get_trader_config(user_id="ada", trader_id="t-1")
    except errors.NotFound:
        ...

`AsyncClient` is the same with `await`.  docs/client.md tells the whole of it.
"""

from nofx_grpc.client import errors
from nofx_grpc.client.aio import AsyncClient
from nofx_grpc.client.aio_mirror import AsyncTraderConfigMirror
from nofx_grpc.client.config_view import ConfigView, TraderId
from nofx_grpc.client.errors import ClientSettingsError, NofxClientError
from nofx_grpc.client.mirror import TraderConfigMirror
from nofx_grpc.client.retries import NO_RETRY, Retry
from nofx_grpc.client.revisions import Revision
from nofx_grpc.client.sync import Client

__all__ = [
    "NO_RETRY",
    "AsyncClient",
    "AsyncTraderConfigMirror",
    "Client",
    "ClientSettingsError",
    "ConfigView",
    "NofxClientError",
    "Retry",
    "Revision",
    "TraderConfigMirror",
    "TraderId",
    "errors",
]
