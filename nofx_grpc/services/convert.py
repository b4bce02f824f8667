"""Small conversions that several services share: times, sealed values, symbols."""

from collections.abc import Mapping
from datetime import datetime
from math import floor
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.timestamp_pb2 import Timestamp

from nofx_grpc.crypto.envelope import VERSION, Envelope, Header, Location, describe
from nofx_grpc.errors import SecretUnreadable

_NOT_SET = Header("", "", "")


def to_timestamp(at: datetime) -> Timestamp:
    """An aware datetime as a Timestamp."""
    return Timestamp(seconds=floor(at.timestamp()), nanos=at.microsecond * 1000)


def header(sealed: str) -> Header:
    """What may be shown of a sealed value; empty where none is set.

    Only a URL without its credentials is shown, and nothing with a sealed text in it: of a value that was damaged the
    ciphertext could stand there.
    """
    found = describe(sealed) or _NOT_SET
    may_be_shown = redacted_url(found.shown) == found.shown and f"{VERSION}:" not in found.shown
    return found if may_be_shown else found._replace(shown="")


def shown_secrets(record: object, secrets: tuple[str, ...]) -> dict[str, Any]:
    """What a resource shows of its secrets: whether each is set, its fingerprint, a URL without its credentials."""
    shown: dict[str, Any] = {}
    for name in secrets:
        sealed: str = getattr(record, name)
        described = header(sealed)
        shown[f"{name}_set"] = bool(sealed)
        shown[f"{name}_fingerprint"] = described.fingerprint
        if name.endswith("_url"):
            shown[f"{name}_redacted"] = described.shown
    return shown


def redacted_url(url: str) -> str:
    """Scheme, host, port and path of a URL: what is left may be shown, for credentials stand in the other parts."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    if not parts.scheme or not host:
        return ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def seal_fields(
    envelope: Envelope, values: Mapping[str, Any], table: str, secrets: tuple[str, ...], *, user_id: str, row_id: str
) -> dict[str, Any]:
    """The same values with each secret among them sealed for its place; URLs show what may be shown."""
    sealed = dict(values)
    for name in secrets:
        if name in sealed:
            secret = sealed[name]
            shown = redacted_url(secret) if name.endswith("_url") else ""
            sealed[name] = envelope.seal(secret, Location(table, name, user_id, row_id), shown=shown)
    return sealed


def open_fields(
    envelope: Envelope, record: object, table: str, secrets: tuple[str, ...], *, user_id: str, row_id: str
) -> dict[str, str]:
    """The secrets of a record in the clear, by name; '' for one that is not set.  Raises SecretUnreadable, naming each
    that does not open.
    """
    opened: dict[str, str] = {}
    unreadable: list[str] = []
    for name in secrets:
        try:
            opened[name] = envelope.open(getattr(record, name), Location(table, name, user_id, row_id))
        except SecretUnreadable:
            unreadable.append(name)
    if unreadable:
        raise SecretUnreadable(*unreadable)
    return opened


def normalize_symbol(symbol: str) -> str:
    """A trading symbol as NOFX writes it: upper case, quoted in USDT."""
    symbol = symbol.strip().upper()
    return symbol if symbol.endswith("USDT") else f"{symbol}USDT"


def join_symbols(symbols: tuple[str, ...]) -> str:
    """Symbols as the store keeps them: normalised, each once, in their order, joined by commas."""
    return ",".join(dict.fromkeys(normalize_symbol(symbol) for symbol in symbols if symbol.strip()))


def split_symbols(text: str) -> list[str]:
    """The symbols of a stored text, which NOFX may have written with spaces around the commas."""
    return [symbol.strip() for symbol in text.split(",") if symbol.strip()]
