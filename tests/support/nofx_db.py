"""Databases as NOFX leaves them, built for a test: its tables with or without what came later, and its encryption."""

import os
import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nofx_grpc.crypto.nofx import derive_key

KEY = "6CtbAENfIx1Nq5NLl/qewooPWfvpyOD7IsIAa3AMT08="  # of the sample
OTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
BCRYPT = "$2a$10$BsOLwSWfHpHMu6kHk8QLve6wX6eu/I1cwKWwZaRcqDrhCc/asFvKy"
CREATED, UPDATED = "2025-11-10 02:00:05", "2025-11-11 03:01:06"

_TIMES = "created_at DATETIME DEFAULT CURRENT_TIMESTAMP, updated_at DATETIME DEFAULT CURRENT_TIMESTAMP"
_EXCHANGE = """name TEXT NOT NULL, type TEXT NOT NULL, enabled BOOLEAN DEFAULT 0, api_key TEXT DEFAULT '',
    secret_key TEXT DEFAULT '', testnet BOOLEAN DEFAULT 0"""
_EXCHANGE_LATER = "hyperliquid_wallet_addr aster_user aster_signer aster_private_key".split()

USERS = f"""CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT UNIQUE NOT NULL, password_hash TEXT NOT NULL,
    otp_secret TEXT, otp_verified BOOLEAN DEFAULT 0, {_TIMES})"""
MODELS = f"""CREATE TABLE ai_models (id TEXT PRIMARY KEY, user_id TEXT NOT NULL DEFAULT 'default', name TEXT NOT NULL,
    provider TEXT NOT NULL, enabled BOOLEAN DEFAULT 0, api_key TEXT DEFAULT '', {_TIMES})"""
SIGNAL_SOURCES = f"""CREATE TABLE user_signal_sources (id INTEGER PRIMARY KEY AUTOINCREMENT, user_id TEXT NOT NULL,
    coin_pool_url TEXT DEFAULT '', oi_top_url TEXT DEFAULT '', {_TIMES}, UNIQUE(user_id))"""
TRADERS = f"""CREATE TABLE traders (id TEXT PRIMARY KEY, user_id TEXT NOT NULL DEFAULT 'default', name TEXT NOT NULL,
    ai_model_id TEXT NOT NULL, exchange_id TEXT NOT NULL, initial_balance REAL NOT NULL,
    scan_interval_minutes INTEGER DEFAULT 3, is_running BOOLEAN DEFAULT 0, {_TIMES})"""
CONFIG = """CREATE TABLE system_config (key TEXT PRIMARY KEY, value TEXT NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP)"""
CODES = """CREATE TABLE beta_codes (code TEXT PRIMARY KEY, used BOOLEAN DEFAULT 0, used_by TEXT DEFAULT '',
    used_at DATETIME DEFAULT NULL, created_at DATETIME DEFAULT CURRENT_TIMESTAMP)"""

# What NOFX adds at a later start.
LATER = {
    "ai_models": ["custom_api_url TEXT DEFAULT ''", "custom_model_name TEXT DEFAULT ''"],
    "traders": [
        "custom_prompt TEXT DEFAULT ''",
        "override_base_prompt BOOLEAN DEFAULT 0",
        "is_cross_margin BOOLEAN DEFAULT 1",
        "use_default_coins BOOLEAN DEFAULT 1",
        "custom_coins TEXT DEFAULT ''",
        "btc_eth_leverage INTEGER DEFAULT 5",
        "altcoin_leverage INTEGER DEFAULT 5",
        "trading_symbols TEXT DEFAULT ''",
        "use_coin_pool BOOLEAN DEFAULT 0",
        "use_oi_top BOOLEAN DEFAULT 0",
        "system_prompt_template TEXT DEFAULT 'default'",
    ],
}


class NofxDatabase:
    """A database of NOFX in WAL mode.  `close` before it is adopted, unless it is to be in use."""

    def __init__(self, path: Path, *, complete: bool = True, single_key: bool = False) -> None:
        self.path, self.key = path, derive_key(KEY)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        for statement in (USERS, MODELS, SIGNAL_SOURCES, TRADERS, CONFIG, CODES):
            self.connection.execute(statement)
        self.create_exchanges("exchanges", complete=complete, single_key=single_key)
        if complete:
            for table, columns in LATER.items():
                for column in columns:
                    self.connection.execute(f"ALTER TABLE {table} ADD COLUMN {column}")

    def create_exchanges(self, name: str, *, complete: bool = True, single_key: bool = False) -> None:
        """Make a table of exchanges: by a single key, as it was first, or by two."""
        key = "id TEXT PRIMARY KEY, user_id TEXT" if single_key else "id TEXT NOT NULL, user_id TEXT NOT NULL"
        later = "".join(f", {column} TEXT DEFAULT ''" for column in _EXCHANGE_LATER) if complete else ""
        end = "" if single_key else ", PRIMARY KEY (id, user_id)"
        self.connection.execute(f"CREATE TABLE {name} ({key} DEFAULT 'default', {_EXCHANGE}{later}, {_TIMES}{end})")

    def insert(self, table: str, **values: object) -> None:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  # names of the tests
        self.connection.execute(sql, tuple(values.values()))

    def user(self, id: object = "u1", **values: object) -> None:
        given: dict[str, object] = {"email": f"{id}@example.com", "password_hash": BCRYPT, "otp_verified": 1}
        given["otp_secret"] = OTP_SECRET
        self.insert("users", id=id, created_at=CREATED, updated_at=UPDATED, **(given | values))

    def model(self, id: object = "u1_deepseek", user_id: object = "u1", **values: object) -> None:
        given: dict[str, object] = {"name": "DeepSeek", "provider": "deepseek", "enabled": 1}
        times = {"created_at": CREATED, "updated_at": UPDATED}
        self.insert("ai_models", id=id, user_id=user_id, **(given | times | values))

    def exchange(self, id: str = "binance", user_id: str = "u1", *, table: str = "exchanges", **values: object) -> None:
        given: dict[str, object] = {"name": "Binance", "type": "cex", "enabled": 1}
        times = {"created_at": CREATED, "updated_at": UPDATED}
        self.insert(table, id=id, user_id=user_id, **(given | times | values))

    def trader(self, id: object = "t1", user_id: object = "u1", **values: object) -> None:
        given: dict[str, object] = {"name": "T", "ai_model_id": "u1_deepseek", "exchange_id": "binance"}
        given |= {"initial_balance": 100.0, "created_at": CREATED, "updated_at": UPDATED}
        self.insert("traders", id=id, user_id=user_id, **(given | values))

    def config(self, key: str, value: object) -> None:
        self.insert("system_config", key=key, value=value, updated_at=UPDATED)

    def complete_user(self) -> None:
        """A user with a model, an exchange and a trader."""
        self.user()
        self.model(api_key=self.encrypted("sk-model-secret"))
        self.exchange(api_key=self.encrypted("exchange-api-key"), secret_key=self.encrypted("exchange-secret"))
        self.trader()

    def encrypted(self, secret: str) -> str:
        """The ciphertext that NOFX stores."""
        nonce = os.urandom(12)
        ciphertext = AESGCM(self.key).encrypt(nonce, secret.encode(), None)
        return f"ENC:v1:{b64encode(nonce).decode()}:{b64encode(ciphertext).decode()}"

    def close(self) -> Path:
        self.connection.close()
        return self.path


@contextmanager
def held_open(path: Path, sql: str) -> Iterator[int]:
    """Another process, whose id is given, has run a statement and keeps the database open until the block ends."""
    script = (
        "import sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute(sys.argv[2]).fetchall()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(path), sql]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdin is None:
            raise RuntimeError("the process has no pipes")
        process.stdout.readline()
        try:
            yield process.pid
        finally:
            process.stdin.close()
