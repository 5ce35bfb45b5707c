"""Bundles in the store: those of other trust domains, and ours, which has the authorities of all servers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import JwtAuthority, TrustBundle, usable_authorities
from meshtls.ca.authority_states import PUBLISHED, AuthorityState
from meshtls.errors import NotFoundError, StoreError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.server.store.changes import ChangeKind, bundle_sequence, log_changes, note_bundle_change
from meshtls.server.store.rows import moment, seconds
from meshtls.server.store.schema import authorities, bundles
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import fingerprint_of

__all__ = [
    "Published",
    "delete_bundle",
    "federated_bundle",
    "federated_bundles",
    "jwt_authority",
    "note_logged",
    "own_bundle",
    "public_key",
    "publish",
    "set_bundle",
    "unlogged",
    "x509_authority",
]


@dataclass(frozen=True, slots=True)
class Published:
    """An authority in the bundle. ``kind`` is x509 or jwt, ``name`` a fingerprint or the ``kid``."""

    kind: str
    name: str
    der: bytes
    expires_at: datetime


def x509_authority(certificate: x509.Certificate) -> Published:
    fingerprint = fingerprint_of(certificate)
    return Published("x509", fingerprint, certificate.public_bytes(Encoding.DER), certificate.not_valid_after_utc)


def jwt_authority(kid: str, key: JwtAuthority, expires_at: datetime) -> Published:
    return Published("jwt", kid, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), expires_at)


async def publish(
    tx: AsyncConnection,
    trust_domain: TrustDomain,
    server_id: str,
    authority: Published,
    now: datetime,
    state: AuthorityState = AuthorityState.ACTIVE,
) -> None:
    """Add an authority, which must be new, to our bundle in this state."""
    revision = await note_bundle_change(tx, trust_domain)
    row = {
        "kind": authority.kind,
        "name": authority.name,
        "server_id": server_id,
        "der": authority.der,
        "expires_at": seconds(authority.expires_at),
        "revision": revision,
        "state": state.name,
        "created_at": seconds(now),
        "changed_at": seconds(now),
        "ends_at": seconds(authority.expires_at),
    }
    await tx.execute(insert(authorities), row)


async def unlogged(tx: AsyncConnection, server_id: str) -> list[Published]:
    """The authorities of this server that are not in the transparency log yet, oldest first."""
    mine = (authorities.c.server_id == server_id) & authorities.c.log_index.is_(None)
    found = await tx.execute(select(authorities).where(mine).order_by(authorities.c.revision))
    return [Published(row.kind, row.name, row.der, moment(row.expires_at)) for row in found]


async def note_logged(tx: AsyncConnection, logged: Iterable[tuple[Published, int]]) -> None:
    """Store the index of the leaf of each of these."""
    for one, index in logged:
        this = (authorities.c.kind == one.kind) & (authorities.c.name == one.name)
        await tx.execute(update(authorities).where(this).values(log_index=index))


async def own_bundle(tx: AsyncConnection, trust_domain: TrustDomain, refresh_hint: int) -> TrustBundle:
    """Our bundle: the authorities that the servers published, in that order.

    Its sequence is the revision of its last change. An unreadable authority of another server is left out.
    """
    published = authorities.c.state.in_([state.name for state in PUBLISHED])
    found = list(await tx.execute(select(authorities).where(published).order_by(authorities.c.revision)))
    roots, unusable = usable_authorities(trust_domain, [row.der for row in found if row.kind == "x509"])
    keys: dict[str, JwtAuthority] = {}
    for row in found:
        if row.kind == "jwt":
            try:
                keys[row.name] = public_key(row.name, row.der)
            except StoreError as error:
                unusable = (*unusable, f"{error}; it is left out")
    return TrustBundle(trust_domain, roots, keys, await bundle_sequence(tx), refresh_hint, unusable)


async def set_bundle(tx: AsyncConnection, bundle: TrustBundle) -> None:
    """Insert or replace the bundle of another trust domain."""
    revision = await log_changes(tx, ChangeKind.BUNDLE, [(str(bundle.trust_domain), "")])
    await tx.execute(delete(bundles).where(bundles.c.trust_domain == str(bundle.trust_domain)))
    row = {"trust_domain": str(bundle.trust_domain), "document": bundle.to_jwks(), "revision": revision}
    await tx.execute(insert(bundles), row)


async def delete_bundle(tx: AsyncConnection, trust_domain: TrustDomain) -> None:
    """Delete the bundle of another trust domain. Raises NotFoundError."""
    await log_changes(tx, ChangeKind.BUNDLE, [(str(trust_domain), "")])
    if not (await tx.execute(delete(bundles).where(bundles.c.trust_domain == str(trust_domain)))).rowcount:
        raise NotFoundError(f"bundle of trust domain {trust_domain}: there is none")


async def federated_bundle(tx: AsyncConnection, trust_domain: TrustDomain) -> TrustBundle | None:
    """The bundle of another trust domain; None if there is none."""
    this = select(bundles).where(bundles.c.trust_domain == str(trust_domain))
    row = (await tx.execute(this)).one_or_none()
    return None if row is None else TrustBundle.from_jwks_of_many(trust_domain, row.document)


async def federated_bundles(tx: AsyncConnection) -> list[TrustBundle]:
    """The bundles of other trust domains, ordered by name."""
    found = await tx.execute(select(bundles).order_by(bundles.c.trust_domain))
    return [TrustBundle.from_jwks_of_many(TrustDomain(row.trust_domain), row.document) for row in found]


def public_key(name: str, der: bytes) -> JwtAuthority:
    """The key of a stored JWT authority. Raises StoreError."""
    try:
        key = load_der_public_key(der)
    except PARSE_ERRORS as error:
        raise StoreError(f"JWT authority {name}: wanted an EC or RSA key: {error}; restore a backup") from error
    if not isinstance(key, JwtAuthority):
        raise StoreError(f"JWT authority {name}: wanted an EC or RSA key, got {type(key).__name__}; restore a backup")
    return key
