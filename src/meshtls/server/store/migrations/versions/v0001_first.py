"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    _make_log()
    _make_entries()
    _make_agents()
    _make_issuances()
    _make_bundles()


def _make_log() -> None:
    counters = op.create_table(
        "counters",
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(counters, [{"name": "log", "value": 0}, {"name": "bundle", "value": 0}])
    op.create_table(
        "changes",
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
    )


def _make_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("spiffe_id", sa.Text, nullable=False, index=True),
        sa.Column("parent_id", sa.Text, nullable=False, index=True),
        sa.Column("selectors", sa.Text, nullable=False),
        sa.Column("x509_svid_ttl", sa.BigInteger, nullable=False),
        sa.Column("jwt_svid_ttl", sa.BigInteger, nullable=False),
        sa.Column("federates_with", sa.Text, nullable=False),
        sa.Column("dns_names", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("downstream", sa.Boolean, nullable=False),
        sa.Column("expires_at", sa.BigInteger, index=True),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("likeness", sa.String(64), nullable=False),
        sa.UniqueConstraint("likeness"),
    )


def _make_agents() -> None:
    op.create_table(
        "agents",
        sa.Column("spiffe_id", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("serial", sa.String(64), nullable=False),
        sa.Column("next_serial", sa.String(64)),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.Column("attested_at", sa.BigInteger, nullable=False),
        sa.Column("banned", sa.Boolean, nullable=False),
        sa.Column("selectors", sa.Text, nullable=False),
    )
    op.create_table(
        "join_tokens",
        sa.Column("token_hash", sa.String(64), primary_key=True),
        sa.Column("agent_id", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
    )


def _make_issuances() -> None:
    op.create_table(
        "issuances",
        sa.Column("number", _ROW_NUMBER, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("serial", sa.String(64), nullable=False),
        sa.Column("spiffe_id", sa.Text, nullable=False, index=True),
        sa.Column("agent_id", sa.Text),
        sa.Column("entry_id", sa.String(36)),
        sa.Column("server_id", sa.String(36), nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("not_before", sa.BigInteger, nullable=False),
        sa.Column("not_after", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("serial"),
    )


def _make_bundles() -> None:
    op.create_table(
        "bundles",
        sa.Column("trust_domain", sa.Text, primary_key=True),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "authorities",
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("server_id", sa.String(36), nullable=False),
        sa.Column("der", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
