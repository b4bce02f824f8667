"""The rows of `system_config`: secrets sealed, unknown keys kept, a JWT secret that is empty or public replaced."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert

from nofx_grpc.crypto.envelope import Location
from nofx_grpc.crypto.nofx import is_nofx_ciphertext
from nofx_grpc.store.adoption import rows
from nofx_grpc.store.adoption.report import Severity
from nofx_grpc.store.adoption.rows import Row
from nofx_grpc.store.adoption.tools import Tools
from nofx_grpc.store.seed import FIRST_REVISION
from nofx_grpc.store.system_config import system_config

JWT_SECRET: Final = "jwt_secret"
_TABLE: Final = system_config.name
_DELETE: Final = delete(system_config).where(system_config.c.key == bindparam("seeded"))


def load_config(connection: Connection, tools: Tools) -> None:
    """Write the settings of the source over those that were seeded, which stay where the source has none."""
    for row in tools.converter.rows(rows.SYSTEM_CONFIG, set()):
        key = row.key[0]
        tools.report.table(_TABLE).adopted += 1
        value = _secret(row, tools) if key in tools.rules.secret else _plain(row, tools)
        if value is None:
            continue
        connection.execute(_DELETE, {"seeded": key})
        connection.execute(insert(system_config), row.values | {"value": value, "revision": FIRST_REVISION})


def _secret(row: Row, tools: Tools) -> str | None:
    """The sealed value; None where the seeded one is to stay: a JWT secret that was made for this store."""
    key, cell = row.key[0], row.values["value"]
    secret = tools.sealer.read(_TABLE, "value", row.key, cell, key)
    if key == JWT_SECRET and not secret:
        tools.report.add(Severity.INFO, "jwt_secret_replaced", _TABLE, key, "it was empty: a new one was made")
        return None
    if key == JWT_SECRET and tools.rules.is_published(secret):
        detail = "anybody can know it, for it has been published: a new one was made, and web sessions end"
        tools.aside.value(
            _TABLE, row.key, "jwt_secret_published", "value", cell, severity=Severity.WARNING, detail=detail
        )
        return None
    _tell_fault(key, secret, tools)
    return tools.sealer.put(Location(_TABLE, "value", "", key), secret, url=key.endswith("_url"))


def _plain(row: Row, tools: Tools) -> str:
    key, cell = row.key[0], row.values["value"]
    if key not in tools.rules.known:
        tools.report.add(Severity.INFO, "unknown_config_key", _TABLE, key, "kept as text that every reader may see")
        if isinstance(cell, str) and is_nofx_ciphertext(cell) and tools.sealer.open(cell) is not None:
            detail = "NOFX had encrypted it, and nothing here would seal it: it was emptied"
            tools.aside.value(_TABLE, row.key, "encrypted_config_value", "value", cell, detail=detail)
            return ""
    text = tools.converter.text(_TABLE, "value", row.key, cell)
    _tell_fault(key, text, tools)
    return text


def _tell_fault(key: str, text: str, tools: Tools) -> None:
    if key in tools.rules.known and text and (fault := tools.rules.fault(key, text)):
        tools.report.add(Severity.WARNING, "config_value_invalid", _TABLE, key, fault)
