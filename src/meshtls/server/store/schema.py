"""The tables. Private keys are never in SQL: of an authority only the published part is stored.

Each server has its own root, intermediate and JWT key, kept by its KeyManager, and publishes root and JWT key in
``authorities`` under its ``server_id``, with the states of their lives (ca.authority_states). So two servers on one
database sign independently, and the bundle has the authorities of both. Neither can sign in the other's name, and a
stolen database can sign nothing.

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
    text,
)

__all__ = [
    "METADATA",
    "agents",
    "audit",
    "audit_state",
    "authorities",
    "blocks",
    "bundles",
    "changes",
    "counters",
    "crls",
    "entries",
    "federation",
    "issuances",
    "join_tokens",
    "log_keys",
    "log_leaves",
    "log_nodes",
    "log_state",
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
_REVOKED = text("revoked_at IS NOT NULL")

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
    # The sequence of the newest bundle of ours that the agent and its workloads have.
    Column("bundle_seen", BigInteger, nullable=False, server_default="0"),
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
    # The id of the authority that it hangs on; None for one that was issued before authorities had states.
    Column("authority", String(64)),
    # The leaf of the transparency log; None for what was issued before there was one.
    Column("log_index", BigInteger),
    # Of the CA of a server below: the ID that this server gave, if it gave one.
    Column("below", String(36)),
    # When it was revoked, and why: a name of cryptography's ReasonFlags. None for what was not revoked.
    Column("revoked_at", BigInteger),
    Column("revocation_reason", String(32)),
    UniqueConstraint("serial"),
    Index(None, "spiffe_id"),
    Index(None, "authority", "not_after"),
    # Of the revoked ones only, so that issuing does not write to it.
    Index("ix_issuances_revoked", "authority", sqlite_where=_REVOKED, postgresql_where=_REVOKED),
)

# The SPIFFE IDs and entries for which nothing is issued until they are readmitted.
blocks = Table(
    "blocks",
    METADATA,
    Column("kind", String(16), primary_key=True),
    Column("subject", String(2048), primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("reason", String(32), nullable=False),
)

# The newest CRL of each intermediate that has revoked something. ``issuer`` is the hash of its key.
crls = Table(
    "crls",
    METADATA,
    Column("issuer", String(64), primary_key=True),
    Column("server_id", String(36), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("der", LargeBinary, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
)

bundles = Table(
    "bundles",
    METADATA,
    Column("trust_domain", Text, primary_key=True),
    Column("document", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
)

# Relations with other trust domains, whose bundles are fetched.
federation = Table(
    "federation",
    METADATA,
    Column("trust_domain", String(255), primary_key=True),
    Column("url", Text, nullable=False),
    Column("profile", String(16), nullable=False),
    Column("endpoint_id", Text),
)

authorities = Table(
    "authorities",
    METADATA,
    Column("kind", String(8), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("server_id", String(36), nullable=False),
    Column("der", LargeBinary, nullable=False),
    # When it leaves the bundle: at its end or, once retired, at the expiry of the last SVID that it signed.
    Column("expires_at", BigInteger, nullable=False),
    # The sequence of the first bundle that it was in.
    Column("revision", BigInteger, nullable=False),
    # A name of ca.authority_states; since when it is in the bundle, and in this state; when its certificate ends.
    Column("state", String(16), nullable=False, server_default="ACTIVE"),
    Column("created_at", BigInteger, nullable=False, server_default="0"),
    Column("changed_at", BigInteger, nullable=False, server_default="0"),
    Column("ends_at", BigInteger, nullable=False, server_default="0"),
    Column("log_index", BigInteger),
)

log_state = Table(
    "log_state",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # there is one row
    Column("origin", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("peaks", LargeBinary, nullable=False),
    Column("signed_size", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
)

log_leaves = Table(
    "log_leaves",
    METADATA,
    Column("number", _ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("entry", LargeBinary, nullable=False),
)

log_nodes = Table(
    "log_nodes",
    METADATA,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
)

log_keys = Table(
    "log_keys",
    METADATA,
    Column("key", Text, primary_key=True),
    Column("origin", Text, nullable=False),
    Column("server_id", String(36), nullable=False),
)

audit_state = Table(
    "audit_state",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),  # there is one row
    Column("number", BigInteger, nullable=False),
    Column("head", LargeBinary, nullable=False),
)

audit = Table(
    "audit",
    METADATA,
    Column("number", _ROW_NUMBER, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
