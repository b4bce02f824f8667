"""What every table is made of: the metadata, and column types that mean the same on every engine."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Dialect, Integer, MetaData, Text, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Ordered by bytes on every engine, so that keyset pages have one order.
ByteOrderedText = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC.

    SQLite keeps it as text, `YYYY-MM-DD HH:MM:SS[.ffffff]`, as NOFX and CURRENT_TIMESTAMP write it; PostgreSQL as
    timestamptz.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        if dialect.name != "sqlite":
            return value
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        at: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        # A foreign writer may have written a zone; without one it is UTC.
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def text_column(name: str, *, nullable: bool = False, default: str | None = "", **options: Any) -> Column[str]:
    """A text column; in byte order, empty by default."""
    server_default = None if default is None else text(f"'{default}'")
    return Column(name, ByteOrderedText, nullable=nullable, server_default=server_default, **options)


def key_column(name: str, **options: Any) -> Column[str]:
    """A text column that is part of a key: no default."""
    return text_column(name, default=None, **options)


def flag_column(name: str, *, default: bool = False) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("true" if default else "false"))


def time_column(name: str, *, nullable: bool = False) -> Column[datetime]:
    default = None if nullable else text("CURRENT_TIMESTAMP")
    return Column(name, UtcDateTime, nullable=nullable, server_default=default)


def revision_column() -> Column[int]:
    """The store's revision at the row's last change: see `revisions`."""
    return Column("revision", BigInteger, nullable=False)


def rewrites_column() -> Column[int]:
    """Counts the store's own rewrites of a row (resealing, rehashing, OTP steps), which leave `updated_at` alone.

    The triggers look at it to tell them from a foreign writer who forgot to set `updated_at`.
    """
    return Column("rewrites", Integer, nullable=False, server_default=text("0"))


class Timestamped(NamedTuple):
    """A table whose `updated_at` a trigger keeps right when a foreign writer forgets it (spec §3)."""

    table: str
    key: tuple[str, ...]
    counts_rewrites: bool
