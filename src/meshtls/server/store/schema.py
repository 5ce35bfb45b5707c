"""The tables. Private keys are never in SQL: of an authority only the published part is stored.

Each server has its own root, intermediate and JWT key, kept by its KeyManager, and publishes root and JWT key in
``authorities`` under its ``server_id``. So two servers on one database sign independently, and the bundle has the
authorities of both. Neither can sign in the other's name, and a stolen database can sign nothing.

``changes`` is the log that a sync reads: a row for each entry, agent or bundle that changed, numbered by ``counters``'
row ``log``. A writer takes the counter's row lock before it numbers, so revisions become visible in order: a reader
that has seen revision 7 will never find a 6 that was committed later. The other counter, ``bundle``, is the sequence of
our own bundle: the revision of its last change, which may have been pruned from the log. Times are whole seconds since
1970, UTC; ids are text.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

__all__ = [
    "METADATA",
    "agents",
    "authorities",
    "bundles",
    "changes",
    "counters",
    "entries",
    "issuances",
    "join_tokens",
]

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)
# SQLite assigns row numbers only to an INTEGER key, which has 64 bits there.
_ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")

counters = Table(
    "counters",
    METADATA,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
)

changes = Table(
    "changes",
    METADATA,
    Column("revision", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("key", Text, nullable=False),
    # The SPIFFE ID of a changed entry: needed to find its children when the entry itself is deleted.
    Column("subject", Text, nullable=False),
)

entries = Table(
    "entries",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("spiffe_id", Text, nullable=False),
    Column("parent_id", Text, nullable=False),
    Column("selectors", Text, nullable=False),
    Column("x509_svid_ttl", BigInteger, nullable=False),
    Column("jwt_svid_ttl", BigInteger, nullable=False),
    Column("federates_with", Text, nullable=False),
    Column("dns_names", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("downstream", Boolean, nullable=False),
    Column("expires_at", BigInteger),
    Column("revision", BigInteger, nullable=False),
    # The revision at which it was created: tells which of two entries is older.
    Column("created", BigInteger, nullable=False, server_default="0"),
    # Hash of parent, SPIFFE ID and selectors, which must be unique. A hash, since the size of an index key is limited.
    Column("likeness", String(64), nullable=False),
    UniqueConstraint("likeness"),
    Index(None, "spiffe_id"),
    Index(None, "parent_id"),
    Index(None, "expires_at"),
)

agents = Table(
    "agents",
    METADATA,
    Column("spiffe_id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("serial", String(64), nullable=False),
    Column("next_serial", String(64)),
    Column("not_after", BigInteger, nullable=False),
    Column("attested_at", BigInteger, nullable=False),
    Column("banned", Boolean, nullable=False),
    Column("selectors", Text, nullable=False),
)

join_tokens = Table(
    "join_tokens",
    METADATA,
    Column("token_hash", String(64), primary_key=True),
    Column("agent_id", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)

issuances = Table(
    "issuances",
    METADATA,
    Column("number", _ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("kind", String(8), nullable=False),
    Column("serial", String(64), nullable=False),
    Column("spiffe_id", Text, nullable=False),
    Column("agent_id", Text),
    Column("entry_id", String(36)),
    Column("server_id", String(36), nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    UniqueConstraint("serial"),
    Index(None, "spiffe_id"),
)

bundles = Table(
    "bundles",
    METADATA,
    Column("trust_domain", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

authorities = Table(
    "authorities",
    METADATA,
    Column("kind", String(8), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("server_id", String(36), nullable=False),
    Column("der", LargeBinary, nullable=False),
    # When it leaves the bundle: at the expiry of its certificate or, once retired, of the last SVID that it signed.
    Column("expires_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
)
