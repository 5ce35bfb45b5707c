"""Bundles in the store: those of other trust domains, and ours, which has the authorities of all servers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.bundle import JwtAuthority, TrustBundle, usable_authorities
from meshtls.errors import NotFoundError, StoreError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.server.store.changes import ChangeKind, bundle_sequence, log_changes, note_bundle_change
from meshtls.server.store.rows import seconds
from meshtls.server.store.schema import authorities, bundles
from meshtls.spiffeid import TrustDomain

__all__ = [
    "Published",
    "delete_bundle",
    "expired_authorities",
    "federated_bundles",
    "jwt_authority",
    "own_bundle",
    "publish",
    "retire_others",
    "set_bundle",
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
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Published("x509", fingerprint, certificate.public_bytes(Encoding.DER), certificate.not_valid_after_utc)


def jwt_authority(kid: str, key: JwtAuthority, expires_at: datetime) -> Published:
    return Published("jwt", kid, key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), expires_at)


async def publish(tx: AsyncConnection, trust_domain: TrustDomain, server_id: str, authority: Published) -> bool:
    """Add an authority to our bundle. If it is there already, undo its retirement and return False."""
    known = (authorities.c.kind == authority.kind) & (authorities.c.name == authority.name)
    stays = update(authorities).where(known).values(expires_at=seconds(authority.expires_at))
    if (await tx.execute(stays)).rowcount:
        return False
    revision = await note_bundle_change(tx, trust_domain)
    row = {"kind": authority.kind, "name": authority.name, "server_id": server_id, "der": authority.der}
    await tx.execute(insert(authorities), row | {"expires_at": seconds(authority.expires_at), "revision": revision})
    return True


async def retire_others(tx: AsyncConnection, server_id: str, signing: Published, last_signed: datetime) -> None:
    """Retire this server's other authorities of that kind: each leaves when the last SVID that it signed expires."""
    older = (
        (authorities.c.server_id == server_id)
        & (authorities.c.kind == signing.kind)
        & (authorities.c.name != signing.name)
        & (authorities.c.expires_at > seconds(last_signed))
    )
    await tx.execute(update(authorities).where(older).values(expires_at=seconds(last_signed)))


async def expired_authorities(tx: AsyncConnection, trust_domain: TrustDomain, now: datetime) -> int:
    """Remove expired authorities from our bundle, and return their number."""
    over = authorities.c.expires_at <= seconds(now)
    count: int = (await tx.execute(select(func.count()).select_from(authorities).where(over))).scalar_one()
    if count:
        await note_bundle_change(tx, trust_domain)
        await tx.execute(delete(authorities).where(over))
    return count


async def own_bundle(tx: AsyncConnection, trust_domain: TrustDomain, refresh_hint: int) -> TrustBundle:
    """Our bundle: the authorities that the servers published, in that order.

    Its sequence is the revision of its last change. An unreadable authority of another server is left out.
    """
    found = list(await tx.execute(select(authorities).order_by(authorities.c.revision)))
    roots, unusable = usable_authorities(trust_domain, [row.der for row in found if row.kind == "x509"])
    keys: dict[str, JwtAuthority] = {}
    for row in found:
        if row.kind == "jwt":
            try:
                keys[row.name] = _public_key(row.name, row.der)
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


async def federated_bundles(tx: AsyncConnection) -> list[TrustBundle]:
    """The bundles of other trust domains, ordered by name."""
    found = await tx.execute(select(bundles).order_by(bundles.c.trust_domain))
    return [TrustBundle.from_jwks_of_many(TrustDomain(row.trust_domain), row.document) for row in found]


def _public_key(name: str, der: bytes) -> JwtAuthority:
    try:
        key = load_der_public_key(der)
    except PARSE_ERRORS as error:
        raise StoreError(f"JWT authority {name}: wanted an EC or RSA key: {error}; restore a backup") from error
    if not isinstance(key, JwtAuthority):
        raise StoreError(f"JWT authority {name}: wanted an EC or RSA key, got {type(key).__name__}; restore a backup")
    return key
