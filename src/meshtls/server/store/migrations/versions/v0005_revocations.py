"""What was revoked: SVIDs, blocked SPIFFE IDs and entries, and the CRLs that say so."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    revoked = sa.text("revoked_at IS NOT NULL")
    op.add_column("issuances", sa.Column("revoked_at", sa.BigInteger))
    op.add_column("issuances", sa.Column("revocation_reason", sa.String(32)))
    op.create_index("ix_issuances_revoked", "issuances", ["authority"], sqlite_where=revoked, postgresql_where=revoked)
    op.create_table(
        "blocks",
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("subject", sa.String(2048), primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.String(32), nullable=False),
    )
    op.create_table(
        "crls",
        sa.Column("issuer", sa.String(64), primary_key=True),
        sa.Column("server_id", sa.String(36), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
    )
