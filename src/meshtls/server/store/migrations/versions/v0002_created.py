"""Entries know in which order they were made: the oldest that fits a workload is its default identity."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("entries", sa.Column("created", sa.BigInteger, nullable=False, server_default="0"))
    # When the present ones were made nobody wrote down; their last change is the nearest to it that is known.
    op.execute("UPDATE entries SET created = revision")
