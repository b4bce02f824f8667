"""A log remembers which positions were open after the records that were pruned from it."""

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decision_logs", sa.Column("pruned", ByteOrderedText, nullable=True))
