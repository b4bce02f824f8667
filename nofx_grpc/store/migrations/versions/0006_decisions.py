"""The index of the decision logs, and the bodies of those that are kept in the database."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
AUTO = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
EMPTY = sa.text("''")
ZERO = sa.text("0")
TRADING = sa.text("trades IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "decision_logs",
        Column("id", AUTO, autoincrement=True, nullable=False),
        Column("trader_id", TEXT, nullable=False),
        Column("user_id", TEXT, server_default=EMPTY, nullable=False),
        Column("folder", TEXT, nullable=False),
        Column("folded_folder", TEXT, nullable=False),
        Column("last_cycle", sa.BigInteger(), server_default=ZERO, nullable=False),
        Column("last_serial", sa.BigInteger(), server_default=ZERO, nullable=False),
        Column("total_cycles", sa.BigInteger(), server_default=ZERO, nullable=False),
        Column("successful_cycles", sa.BigInteger(), server_default=ZERO, nullable=False),
        Column("opens", sa.BigInteger(), server_default=ZERO, nullable=False),
        Column("closes", sa.BigInteger(), server_default=ZERO, nullable=False),
        Column("partial_closes", sa.BigInteger(), server_default=ZERO, nullable=False),
        Column("size_bytes", sa.BigInteger(), server_default=ZERO, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_decision_logs")),
        sa.UniqueConstraint("folder", name=op.f("uq_decision_logs_folder")),
        sa.UniqueConstraint("trader_id", name=op.f("uq_decision_logs_trader_id")),
    )
    op.create_index(op.f("ix_decision_logs_folded_folder"), "decision_logs", ["folded_folder"])
    op.create_index(op.f("ix_decision_logs_user_id"), "decision_logs", ["user_id"])
    op.create_table(
        "decisions",
        Column("log_id", sa.BigInteger(), autoincrement=False, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("time_ns", sa.BigInteger(), nullable=False),
        Column("serial", sa.BigInteger(), nullable=False),
        Column("cycle_number", sa.BigInteger(), nullable=False),
        Column("success", sa.Boolean(), nullable=False),
        Column("size_bytes", sa.BigInteger(), nullable=False),
        Column("mtime_ns", sa.BigInteger(), nullable=False),
        Column("staged", TEXT, server_default=EMPTY, nullable=False),
        Column("total_balance", sa.Double(), nullable=False),
        Column("unrealized_profit", sa.Double(), nullable=False),
        Column("trades", TEXT, nullable=True),
        Column("legs", TEXT, nullable=True),
        sa.ForeignKeyConstraint(["log_id"], ["decision_logs.id"], name=op.f("fk_decisions_log_id")),
        sa.PrimaryKeyConstraint("log_id", "id", name=op.f("pk_decisions")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_decisions_time", "decisions", ["log_id", "time_ns", "id"])
    op.create_index("ix_decisions_serial", "decisions", ["log_id", "serial"], unique=True)
    op.create_index(
        "ix_decisions_trades",
        "decisions",
        ["log_id", "time_ns", "id"],
        sqlite_where=TRADING,
        postgresql_where=TRADING,
    )
    op.create_table(
        "decision_bodies",
        Column("log_id", sa.BigInteger(), autoincrement=False, nullable=False),
        Column("id", TEXT, nullable=False),
        Column("body", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["log_id", "id"],
            ["decisions.log_id", "decisions.id"],
            name=op.f("fk_decision_bodies_log_id_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("log_id", "id", name=op.f("pk_decision_bodies")),
    )
    op.create_table(
        "unreadable_decisions",
        Column("log_id", sa.BigInteger(), autoincrement=False, nullable=False),
        Column("name", TEXT, nullable=False),
        Column("size_bytes", sa.BigInteger(), nullable=False),
        Column("mtime_ns", sa.BigInteger(), nullable=False),
        Column("reason", TEXT, nullable=False),
        sa.ForeignKeyConstraint(["log_id"], ["decision_logs.id"], name=op.f("fk_unreadable_decisions_log_id")),
        sa.PrimaryKeyConstraint("log_id", "name", name=op.f("pk_unreadable_decisions")),
    )
