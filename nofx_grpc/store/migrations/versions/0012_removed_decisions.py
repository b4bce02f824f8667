"""What was pruned is written down until its file is gone for good."""

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText, UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "removed_decisions",
        sa.Column("log_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", ByteOrderedText, nullable=False),
        sa.Column("removed_at", UtcDateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.ForeignKeyConstraint(["log_id"], ["decision_logs.id"], name=op.f("fk_removed_decisions_log_id")),
        sa.PrimaryKeyConstraint("log_id", "id", name=op.f("pk_removed_decisions")),
    )
    op.create_index(op.f("ix_removed_decisions_removed_at_log_id"), "removed_decisions", ["removed_at", "log_id"])
