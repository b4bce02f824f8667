"""What tells that the database is a promoted one since somebody wrote to it."""

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "database_timeline",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("timeline", ByteOrderedText, server_default=sa.text("''"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_database_timeline")),
    )
    op.execute("INSERT INTO database_timeline (id) VALUES (1)")
