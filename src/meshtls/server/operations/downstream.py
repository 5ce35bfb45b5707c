"""What a server below this one may do: get its CA and the bundle, and publish the keys of its JWT-SVIDs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_public_key

from meshtls.bundle import TrustBundle
from meshtls.ca.authority_states import PUBLISHED, AuthorityState
from meshtls.ca.csr import check_public_key
from meshtls.errors import AccessError, ConflictError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.registration import Entry
from meshtls.scalars import shown
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core, lifetime
from meshtls.server.operations.permission import allowed_to
from meshtls.server.store import authorities, bundles, issuances
from meshtls.server.store.authorities import DOWNSTREAM, AuthorityRecord
from meshtls.server.store.bundles import jwt_authority
from meshtls.svid.x509 import key_id_of

__all__ = ["DownstreamBundle", "DownstreamCa", "downstream_bundle", "new_downstream_ca", "publish_jwt_authority"]

_MOST_KEYS = 256
_LONGEST_KID = 64
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST_LIFE = timedelta(days=3660)


@dataclass(frozen=True, slots=True)
class DownstreamCa:
    """A CA for a server below this one, with what leads from it to one of the ``authorities``."""

    chain: tuple[x509.Certificate, ...]
    authorities: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class DownstreamBundle:
    """The bundle, which of it is tainted, by fingerprint or ``kid``, and when JWT keys end.

    ``issuer`` is the subject key identifier of the certificate that signs downstream CAs now.
    """

    bundle: TrustBundle
    tainted: frozenset[str]
    ends: dict[str, datetime]
    issuer: str


@allowed_to(Role.DOWNSTREAM)
async def new_downstream_ca(
    core: Core, caller: Caller, csr: bytes, preferred_ttl: int = 0, below: str = ""
) -> DownstreamCa:
    """A CA for this server: ``preferred_ttl`` in seconds, 0 for ca_ttl, which it never exceeds; ``below`` is the ID
    that the server gives, a UUID, or empty.

    Nothing proves that ID. It only tells apart the CAs of servers with one identity, in what hangs on an authority.

    Raises AccessError, RequestError for an invalid CSR or ID, ConfigError, StoreError.
    """
    if below and not _UUID.fullmatch(below):
        raise RequestError(f"ID of the server below: wanted a UUID, got {shown(below)}")
    entry = _entry(core, caller)
    ttl = min(lifetime(preferred_ttl, core.config.ca_ttl), core.config.ca_ttl)
    async with core.database.read() as tx:
        agent_id = await issuances.agent_of(tx, caller.peer.serial) if caller.peer else None
    signed = core.signing.downstream_ca(csr, ttl, entry.id, agent_id, below or None)
    await core.ledger.commit(core.trail.record(caller, "sign downstream CA", entry.spiffe_id), [signed])
    return DownstreamCa(signed.chain, core.hub.bundle.x509_authorities)


@allowed_to(Role.DOWNSTREAM)
async def downstream_bundle(core: Core, caller: Caller) -> DownstreamBundle:
    """The bundle of the trust domain with what a server needs to follow its authorities. Raises StoreError."""
    async with core.database.read() as tx:
        found = [one for one in await authorities.list_authorities(tx) if one.state in PUBLISHED]
    tainted = {one.published.name for one in found if one.state is AuthorityState.TAINTED}
    ends = {one.id: one.ends_at for one in found if one.kind == "jwt"}
    issuer = key_id_of(core.signing.authority.downstream_issuer)
    return DownstreamBundle(core.hub.bundle, frozenset(tainted), ends, issuer)


@allowed_to(Role.DOWNSTREAM)
async def publish_jwt_authority(core: Core, caller: Caller, kid: str, der: bytes, expires_at: int) -> DownstreamBundle:
    """Add a key of this server's to the bundle, here and above. A key that is there stays as it is.

    Raises AccessError, RequestError for an unusable key, ConflictError for a ``kid`` of another key and for a key that
    has left the bundle, StoreError.
    """
    entry = _entry(core, caller)
    if not 1 <= len(kid) <= _LONGEST_KID or not kid.isascii() or not kid.isprintable():
        raise RequestError(f"JWT key ID: wanted 1 to {_LONGEST_KID} printable ASCII characters, got {shown(kid)}")
    try:
        key = check_public_key(load_der_public_key(der))
    except PARSE_ERRORS as error:
        raise RequestError(f"JWT key {shown(kid)}: wanted an EC or RSA public key in DER: {error}") from error
    now = core.clock.now()
    latest = now + _LONGEST_LIFE
    if expires_at and not now.timestamp() < expires_at <= latest.timestamp():
        raise RequestError(f"JWT key {shown(kid)}: wanted an end between now and {latest:%Y-%m-%d}, got {expires_at}")
    ends = datetime.fromtimestamp(expires_at, now.tzinfo) if expires_at else latest
    published = jwt_authority(kid, key, ends)
    async with core.database.read() as tx:
        _check_new(await authorities.list_authorities(tx), published)
    await core.authorities.publish_upstream(published)
    async with core.change() as tx:
        if _check_new(await authorities.locked_authorities(tx), published):
            await bundles.publish(tx, core.hub.trust_domain, DOWNSTREAM, published, now)
            await core.ledger.record_authorities(tx, DOWNSTREAM, str(core.hub.trust_domain.id))
            told = core.trail.record(caller, "publish downstream JWT authority", kid, after={"entry_id": entry.id})
            await core.trail.append(tx, [told])
    return await downstream_bundle(core, caller)


def _entry(core: Core, caller: Caller) -> Entry:
    entry = core.hub.index.downstream(caller.peer.spiffe_id) if caller.peer else None
    if entry is None:  # it was deleted since the call was authenticated
        raise AccessError(f"permission denied: {caller.name} has no entry marked downstream")
    return entry


def _check_new(present: list[AuthorityRecord], wanted: bundles.Published) -> bool:
    """Whether this key is not there yet. Raises ConflictError, RequestError where it can't be published."""
    if any(one.kind == "x509" and one.id == wanted.name for one in present):
        raise ConflictError(f"JWT key {wanted.name}: an X.509 authority has this ID; give the key another one")
    keys = [one for one in present if one.kind == "jwt"]
    for one in keys:
        if one.published.name == wanted.name:
            if one.published.der != wanted.der:
                raise ConflictError(f"JWT key {wanted.name}: another key is published by this ID")
            if one.state not in PUBLISHED:
                raise ConflictError(f"JWT key {wanted.name}: it is {one.state.name}; prepare and publish a new one")
            return False
    if sum(one.server_id == DOWNSTREAM and one.state in PUBLISHED for one in keys) >= _MOST_KEYS:
        raise RequestError(f"JWT keys of downstream servers: wanted at most {_MOST_KEYS}; revoke those out of use")
    return True
