"""How often the keyring has changed, so that each process sees that it has to read it again."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "store_state", sa.Column("keyring_version", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
