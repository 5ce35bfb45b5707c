"""Records the order in which entries were created: the oldest that a workload matches is its default identity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entries", sa.Column("created", sa.BigInteger, nullable=False, server_default="0"))
    # The creation of the present entries was not recorded; their last change is the best known approximation.
    op.execute("UPDATE entries SET created = revision")
