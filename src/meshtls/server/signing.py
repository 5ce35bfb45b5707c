"""Signs SVIDs. Each is returned with its record, which the caller must commit before the SVID leaves the server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from meshtls.ca.profile import PublicKey
from meshtls.ca.subordinate import X509Authority
from meshtls.ca.tlog.note import NoteSigner
from meshtls.clock import Clock
from meshtls.errors import ConfigError, MeshtlsError, RequestError
from meshtls.logs import logger
from meshtls.registration import Issuance
from meshtls.server.jwt_key import JwtKey
from meshtls.spiffeid import SpiffeId
from meshtls.svid import jwt
from meshtls.svid.jwt import JwtSvid
from meshtls.svid.x509 import format_moment

__all__ = ["Signed", "SignedJwt", "Signing"]

log = logger("meshtls.server")

_NAMES = {"x509": "X509-SVID", "jwt": "JWT-SVID", "ca": "CA of a server below"}


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
    """Signs with this server's active authorities, ``authority`` and ``jwt_key``. Rotation replaces them.

    Each SVID is recorded with ``server_id`` and the authority that it hangs on. ``log_key`` signs the
    transparency log.

    ``on_signed`` is a hook for metrics, called with x509, jwt or ca, how long signing took, and why it failed.
    ``not_signed`` says for each of these that its latest signature failed, through no fault of the request, and why.
    """

    def __init__(
        self, server_id: str, authority: X509Authority | None, jwt_key: JwtKey, log_key: NoteSigner, clock: Clock
    ) -> None:
        self.server_id = server_id
        self._authority = authority
        self.jwt_key = jwt_key
        self.log_key = log_key
        self._clock = clock
        self.on_signed: Callable[[str, float, MeshtlsError | None], None] = _unobserved
        self.not_signed: dict[str, str] = {}

    @property
    def authority(self) -> X509Authority:
        """Raises ConfigError before the first one."""
        if self._authority is None:
            raise ConfigError("there is no CA yet: the upstream authority has signed none")
        return self._authority

    @authority.setter
    def authority(self, authority: X509Authority) -> None:
        self._authority = authority

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
        with self._observed("x509"):
            authority = self.authority
            issued = authority.sign(spiffe_id, key_or_csr, ttl=ttl, dns_names=dns_names)
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
            authority=authority.id,
        )
        return Signed(issued.chain, record)

    def downstream_ca(
        self, csr: bytes, ttl: timedelta, entry_id: str, agent_id: SpiffeId | None, below: str | None = None
    ) -> Signed:
        """Sign the CA of a server below this one, whose SVID came by this agent, and which gives the ID ``below``.

        Raises RequestError for an invalid CSR, ConfigError.
        """
        with self._observed("ca"):
            authority = self.authority
            issued = authority.sign_ca(csr, ttl)
        ca = issued.record
        record = Issuance(
            kind="ca",
            serial=ca.serial,
            spiffe_id=ca.spiffe_id,
            server_id=self.server_id,
            issued_at=self._clock.now(),
            not_before=ca.not_before,
            not_after=ca.not_after,
            agent_id=agent_id,
            entry_id=entry_id,
            authority=authority.id,
            below=below,
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
        with self._observed("jwt"):
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
            authority=key.kid,
        )
        return SignedJwt(svid, record)

    @contextmanager
    def _observed(self, kind: str) -> Iterator[None]:
        began, failed = time.perf_counter(), None
        try:
            yield
        except MeshtlsError as error:
            failed = error
            raise
        finally:
            self._note(kind, failed)
            self.on_signed(kind, time.perf_counter() - began, failed)

    def _note(self, kind: str, failed: MeshtlsError | None) -> None:
        if failed is None:
            if self.not_signed.pop(kind, None):
                log.warning("%s: signed again", _NAMES[kind])
        elif not isinstance(failed, RequestError) and kind not in self.not_signed:
            since = format_moment(self._clock.now())
            self.not_signed[kind] = f"no {_NAMES[kind]} is signed since {since}: {failed}"
            log.error("%s", self.not_signed[kind])


def _unobserved(kind: str, seconds: float, error: MeshtlsError | None) -> None:
    return None
