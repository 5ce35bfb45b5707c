"""Which server below this one a CA is of, so that two servers with one identity are told apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("issuances", sa.Column("below", sa.String(36)))
