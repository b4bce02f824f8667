"""The oldest schema whose releases still work on the database: servers of two releases run side by side."""

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    column = sa.Column("oldest_schema", ByteOrderedText, server_default=sa.text("''"), nullable=False)
    op.add_column("store_state", column)
    op.execute("UPDATE store_state SET oldest_schema = '0005'")
