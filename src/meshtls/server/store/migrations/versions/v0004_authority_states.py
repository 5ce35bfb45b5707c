"""The states of authorities, the authority that signed each SVID, and the bundle that each agent has.

The authorities that are there are active. A server retires those of its own that it has no key of when it starts.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("authorities", sa.Column("state", sa.String(16), nullable=False, server_default="ACTIVE"))
    for name in ("created_at", "changed_at", "ends_at"):
        op.add_column("authorities", sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
    op.execute("UPDATE authorities SET ends_at = expires_at")
    op.add_column("issuances", sa.Column("authority", sa.String(64)))
    op.create_index("ix_issuances_authority", "issuances", ["authority", "not_after"])
    op.add_column("agents", sa.Column("bundle_seen", sa.BigInteger, nullable=False, server_default="0"))
