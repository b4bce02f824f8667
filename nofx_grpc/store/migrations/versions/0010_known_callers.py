"""From where somebody has logged in before has a table of its own.

The notes of it in `login_tries` are told from tries by how long they last: they go, and come again with the next login.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

from nofx_grpc.store.metadata import ByteOrderedText, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "known_callers",
        sa.Column("id", ByteOrderedText, nullable=False),
        sa.Column("forgotten_at", UtcDateTime(), server_default=sa.text("CURRENT_TIMESTAMP"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_known_callers")),
    )
    op.create_index(op.f("ix_known_callers_forgotten_at"), "known_callers", ["forgotten_at"])
    tries = sa.table("login_tries", sa.column("forgotten_at", UtcDateTime()))
    op.execute(sa.delete(tries).where(tries.c.forgotten_at > datetime.now(UTC) + timedelta(days=1)))
