"""What a new store starts with: its history, its keyring, the template user and rows, and the system's defaults."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert

from nofx_grpc.crypto.keyring import KeyRecord
from nofx_grpc.store import keys
from nofx_grpc.store.exchanges import exchanges
from nofx_grpc.store.models import ai_models
from nofx_grpc.store.revisions import store_state
from nofx_grpc.store.system_config import system_config
from nofx_grpc.store.users import DEFAULT_USER, users

FIRST_REVISION = 1
# What the last migration that older releases cannot live with has set: see CONTRIBUTING.md, "A change of the schema".
OLDEST_SCHEMA = "0009"

# The templates that NOFX seeds for the user `default` (spec §2.2, §2.3): id, name, and provider or type.
MODEL_TEMPLATES = (("deepseek", "DeepSeek", "deepseek"), ("qwen", "Qwen", "qwen"))
EXCHANGE_TEMPLATES = (
    ("binance", "Binance Futures", "binance"),
    ("hyperliquid", "Hyperliquid", "hyperliquid"),
    ("aster", "Aster DEX", "aster"),
)


def seed(
    connection: Connection, *, keyring: Sequence[KeyRecord], salt: bytes, config: Mapping[str, str], now: datetime
) -> None:
    """Fill a database that was just made, at revision 1.  `config` holds the system's settings, secrets already
    sealed.
    """
    state = {"id": 1, "revision": FIRST_REVISION, "compacted_revision": FIRST_REVISION, "oldest_schema": OLDEST_SCHEMA}
    connection.execute(insert(store_state), state | {"history_id": str(uuid.uuid4()), "created_at": now})
    keys.append(connection, list(keyring))
    keys.write_salt(connection, salt)
    stamp = {"created_at": now, "updated_at": now, "revision": FIRST_REVISION}
    connection.execute(
        insert(users),
        stamp
        | {"id": DEFAULT_USER, "email": "default@localhost", "email_key": "default@localhost", "otp_verified": False},
    )
    connection.execute(
        insert(ai_models),
        [stamp | {"id": id, "name": name, "provider": provider} for id, name, provider in MODEL_TEMPLATES],
    )
    connection.execute(
        insert(exchanges), [stamp | {"id": id, "name": name, "type": type} for id, name, type in EXCHANGE_TEMPLATES]
    )
    connection.execute(
        insert(system_config),
        [{"key": key, "value": value, "updated_at": now, "revision": FIRST_REVISION} for key, value in config.items()],
    )
