"""Files of decision records are named after their commit: until then their bodies wait in the database.

`decisions.staged`, where a body was before it got its name, goes: older releases, which go by it, cannot be let on.
"""

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE decisions DROP COLUMN staged")  # in place: a batch would copy all of a large table
    op.add_column("decision_logs", sa.Column("unsettled", ByteOrderedText, nullable=True))
    directory = sa.Column("decision_logs_id", ByteOrderedText, server_default=sa.text("''"), nullable=False)
    op.add_column("store_state", directory)
    op.execute("UPDATE store_state SET oldest_schema = '0009'")
