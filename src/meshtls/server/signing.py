"""Signs SVIDs. Each is returned with its record, which the caller must commit before the SVID leaves the server."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from meshtls.ca.authority import Authority
from meshtls.ca.profile import PublicKey
from meshtls.clock import Clock
from meshtls.registration import Issuance
from meshtls.server.jwt_key import JwtKey
from meshtls.spiffeid import SpiffeId
from meshtls.svid import jwt
from meshtls.svid.jwt import JwtSvid

__all__ = ["Signed", "SignedJwt", "Signing"]


@dataclass(frozen=True, slots=True)
class Signed:
    """An X509-SVID, leaf first, and its record."""

    chain: tuple[x509.Certificate, ...]
    record: Issuance


@dataclass(frozen=True, slots=True)
class SignedJwt:
    """A JWT-SVID and its record."""

    svid: JwtSvid
    record: Issuance


class Signing:
    """This server's two signing keys. Each SVID they sign is recorded with ``server_id``."""

    def __init__(self, server_id: str, authority: Authority, jwt_key: JwtKey, clock: Clock) -> None:
        self.server_id = server_id
        self.authority = authority
        self.jwt_key = jwt_key
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
        """Sign an X509-SVID. Raises RequestError for an invalid CSR or name, ConfigError for an expired CA."""
        issued = self.authority.sign(spiffe_id, key_or_csr, ttl=ttl, dns_names=dns_names)
        leaf = issued.record
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
        return Signed(issued.chain, record)

    def jwt(
        self,
        spiffe_id: SpiffeId,
        audience: Collection[str],
        ttl: timedelta,
        *,
        agent_id: SpiffeId | None = None,
        entry_id: str | None = None,
    ) -> SignedJwt:
        """Sign a JWT-SVID. Raises RequestError for an invalid audience or lifetime."""
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
