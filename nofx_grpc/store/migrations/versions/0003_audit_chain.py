"""The audit log is a set of chains: a record is known by its chain and its place in it, and always has its seal."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy import Column

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.TEXT(collation="C"), "postgresql")
TIME = sa.Text().with_variant(sa.DateTime(timezone=True), "postgresql")
EMPTY = sa.text("''")
NOW = sa.text("CURRENT_TIMESTAMP")

# Whoever runs the migration seals them next, in the same transaction: only it has the key.
COPY = """
INSERT INTO audit_log_new (chain_id, chain_position, at, principal, role, method, peer, user_id, resources, outcome,
                           reason, revision, request_id, mac)
SELECT 'before', row_number() OVER (ORDER BY id), at, principal, role, method, peer, user_id, resources, outcome,
       reason, revision, request_id, CAST('' AS {bytes})
FROM audit_log
"""


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:  # there a key has a name that no other table's may have
        op.execute("ALTER TABLE audit_log RENAME CONSTRAINT pk_audit_log TO pk_audit_log_old")
    op.create_table(
        "audit_log_new",
        Column("chain_id", TEXT, nullable=False),
        Column("chain_position", sa.BigInteger(), autoincrement=False, nullable=False),
        Column("at", TIME, server_default=NOW, nullable=False),
        Column("principal", TEXT, nullable=False),
        Column("role", TEXT, server_default=EMPTY, nullable=False),
        Column("method", TEXT, nullable=False),
        Column("peer", TEXT, server_default=EMPTY, nullable=False),
        Column("user_id", TEXT, server_default=EMPTY, nullable=False),
        Column("resources", TEXT, server_default=EMPTY, nullable=False),
        Column("outcome", TEXT, nullable=False),
        Column("reason", TEXT, server_default=EMPTY, nullable=False),
        Column("revision", sa.BigInteger(), nullable=True),
        Column("request_id", TEXT, server_default=EMPTY, nullable=False),
        Column("mac", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", "chain_position", name=op.f("pk_audit_log")),
    )
    op.execute(COPY.format(bytes="bytea" if postgresql else "BLOB"))
    op.drop_table("audit_log")
    op.rename_table("audit_log_new", "audit_log")
    op.create_index(op.f("ix_audit_log_at"), "audit_log", ["at"], unique=False)
    for column in ("principal", "method", "user_id"):
        op.create_index(op.f(f"ix_audit_log_{column}_at"), "audit_log", [column, "at"], unique=False)
    op.create_index(
        op.f("ix_audit_log_outcome_at"),
        "audit_log",
        ["outcome", "at"],
        unique=False,
        sqlite_where=sa.text("outcome <> 'OK'"),
        postgresql_where=sa.text("outcome <> 'OK'"),
    )
    op.create_table(
        "audit_anchors",
        Column("chain_id", TEXT, nullable=False),
        Column("position", sa.BigInteger(), nullable=False),
        Column("mac", sa.LargeBinary(), nullable=False),
        Column("pruned_at", TIME, server_default=NOW, nullable=False),
        Column("seal", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("chain_id", name=op.f("pk_audit_anchors")),
    )
