"""Tries at logging in, counted so that guessing gets slower."""

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "login_tries",
        sa.Column("id", ByteOrderedText, nullable=False),
        sa.Column("forgotten_at", UtcDateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.Column("blocked_until", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_tries")),
    )
    op.create_index(op.f("ix_login_tries_forgotten_at"), "login_tries", ["forgotten_at"])
