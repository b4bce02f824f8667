"""The processes that serve the store, of which one keeps house."""

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "processes",
        sa.Column("id", ByteOrderedText, nullable=False),
        sa.Column("checked_in_at", UtcDateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.Column("held_revision", sa.BigInteger(), nullable=True),
        sa.Column("keeps_house", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
