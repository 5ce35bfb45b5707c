"""Signs SVIDs and says what was signed; the caller keeps the record before it hands anything out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from meshtls.ca.authority import Authority
from meshtls.ca.profile import PublicKey
from meshtls.ca.records import IssuanceRecord
from meshtls.clock import Clock
from meshtls.errors import StoreError
from meshtls.registration import Issuance
from meshtls.server.jwt_key import JwtKey
from meshtls.spiffeid import SpiffeId
from meshtls.svid import jwt
from meshtls.svid.jwt import JwtSvid

__all__ = ["LatestIssuance", "Signed", "SignedJwt", "Signing"]


@dataclass(frozen=True, slots=True)
class Signed:
    """A chain, leaf first, and its record."""

    chain: tuple[x509.Certificate, ...]
    record: Issuance


@dataclass(frozen=True, slots=True)
class SignedJwt:
    """A token and its record."""

    svid: JwtSvid
    record: Issuance


class LatestIssuance:
    """The authority's recorder on a server: holds what was issued last for the call that asked for it, which puts it
    into the store.
    """

    def __init__(self) -> None:
        self._latest: IssuanceRecord | None = None

    def record(self, record: IssuanceRecord) -> None:
        if self._latest is not None:
            raise StoreError(f"certificate {self._latest.serial} was issued and nobody put it on record")
        self._latest = record

    def take(self) -> IssuanceRecord:
        """What was issued since the last call: exactly one."""
        latest, self._latest = self._latest, None
        if latest is None:
            raise StoreError("nothing was issued that could go on record")
        return latest


class Signing:
    """This server's two signing keys. ``issued`` is the recorder that ``authority`` was made with."""

    def __init__(
        self, server_id: str, authority: Authority, issued: LatestIssuance, jwt_key: JwtKey, clock: Clock
    ) -> None:
        self.server_id = server_id
        self.authority = authority
        self.jwt_key = jwt_key
        self._issued = issued
        self._clock = clock

    def x509(
        self,
        spiffe_id: SpiffeId,
        key_or_csr: PublicKey | bytes,
        ttl: timedelta,
        *,
        dns_names: Iterable[str] = (),
        agent_id: SpiffeId | None = None,
        entry_id: str | None = None,
    ) -> Signed:
        """Raises RequestError for a CSR or name that can't be certified, ConfigError where the CA has expired."""
        chain = self.authority.issue(spiffe_id, key_or_csr, ttl=ttl, dns_names=dns_names)
        leaf = self._issued.take()
        record = Issuance(
            kind="x509",
            serial=leaf.serial,
            spiffe_id=spiffe_id,
            server_id=self.server_id,
            issued_at=self._clock.now(),
            not_before=leaf.not_before,
            not_after=leaf.not_after,
            agent_id=agent_id,
            entry_id=entry_id,
        )
        return Signed(chain, record)

    def jwt(
        self,
        spiffe_id: SpiffeId,
        audience: Collection[str],
        ttl: timedelta,
        *,
        agent_id: SpiffeId | None = None,
        entry_id: str | None = None,
    ) -> SignedJwt:
        """Raises RequestError for an audience or a life that no token may have."""
        now = self._clock.now()
        key = self.jwt_key
        svid = jwt.sign(spiffe_id, audience, key=key.private_key, key_id=key.kid, now=now, ttl=ttl)
        record = Issuance(
            kind="jwt",
            serial=hashlib.sha256(svid.token.encode()).hexdigest()[:32],
            spiffe_id=spiffe_id,
            server_id=self.server_id,
            issued_at=now,
            not_before=now,
            not_after=svid.expiry,
            agent_id=agent_id,
            entry_id=entry_id,
        )
        return SignedJwt(svid, record)
