"""The tables of the decision logs: the index of all records, and the bodies that the database keeps."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    Table,
    text,
)

from nofx_grpc.store.metadata import ByteOrderedText, key_column, metadata, text_column, time_column


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


# One row for each trader that has records, or had.  It outlives the trader, and says whose the records are.
decision_logs = Table(
    "decision_logs",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    key_column("trader_id", unique=True),
    text_column("user_id"),  # empty for records that came from elsewhere
    key_column("folder", unique=True),
    key_column("folded_folder"),  # as a file system without case sees it
    _count("last_cycle"),
    _count("last_serial"),
    _count("total_cycles"),
    _count("successful_cycles"),
    _count("opens"),
    _count("closes"),
    _count("partial_closes"),
    _count("size_bytes"),
    Column("pruned", ByteOrderedText),  # what was open after the last record that was pruned, and which that was
    Column("unsettled", ByteOrderedText),  # the records whose `legs` may be wrong; NULL for none
    Index(None, "folded_folder"),
    Index(None, "user_id"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("log_id", BigInteger, primary_key=True, autoincrement=False),
    key_column("id", primary_key=True),
    Column("time_ns", BigInteger, nullable=False),  # the time inside the record
    Column("serial", BigInteger, nullable=False),  # the order in which the records came, within their log
    Column("cycle_number", BigInteger, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),  # the file's; 0 for one that was written here
    Column("total_balance", Double, nullable=False),
    Column("unrealized_profit", Double, nullable=False),
    Column("trades", ByteOrderedText),  # what was done to positions; NULL for most
    Column("legs", ByteOrderedText),  # the positions open after it; only where there are trades
    ForeignKeyConstraint(["log_id"], ["decision_logs.id"]),
    Index("ix_decisions_time", "log_id", "time_ns", "id"),
    Index("ix_decisions_serial", "log_id", "serial", unique=True),
    Index(
        "ix_decisions_trades",
        "log_id",
        "time_ns",
        "id",
        sqlite_where=text("trades IS NOT NULL"),
        postgresql_where=text("trades IS NOT NULL"),
    ),
    sqlite_with_rowid=False,  # the records of one trader lie together
)

# All bodies, where the database is their home; else those of records whose files do not have their names for good yet.
decision_bodies = Table(
    "decision_bodies",
    metadata,
    Column("log_id", BigInteger, primary_key=True, autoincrement=False),
    key_column("id", primary_key=True),
    Column("body", LargeBinary, nullable=False),  # zlib
    ForeignKeyConstraint(["log_id", "id"], ["decisions.log_id", "decisions.id"], ondelete="CASCADE"),
)

# Records that were pruned, whose files may be there still or come late.  Only where records are files.
removed_decisions = Table(
    "removed_decisions",
    metadata,
    Column("log_id", BigInteger, primary_key=True, autoincrement=False),
    key_column("id", primary_key=True),
    time_column("removed_at"),
    ForeignKeyConstraint(["log_id"], ["decision_logs.id"]),
    Index(None, "removed_at", "log_id"),
)

# What lies in a trader's folder and is no record.
unreadable_decisions = Table(
    "unreadable_decisions",
    metadata,
    Column("log_id", BigInteger, primary_key=True, autoincrement=False),
    key_column("name", primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    key_column("reason"),
    ForeignKeyConstraint(["log_id"], ["decision_logs.id"]),
)
