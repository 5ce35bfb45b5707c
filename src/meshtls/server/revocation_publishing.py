"""Publishes CRLs and answers OCSP over HTTP, for those outside the mesh: its workloads are sent each CRL anyway.

A CRL here is short-lived, since whoever fetches it keeps it until its next update. Each server answers for its own
intermediates, to which the certificates that it signs point, and for the root that signs the CAs of servers below.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from meshtls.ca.profile import BACKDATE, Signer
from meshtls.logs import logger
from meshtls.revocation.building import CRL_SUFFIX, build_crl, crl_issuer
from meshtls.revocation.ocsp import NOT_ISSUED, OCSP_GOOD, CertificateState, OcspSigner
from meshtls.revocation.publishing import CrlFile
from meshtls.rpc.revocation_http import serve_revocation
from meshtls.rpc.sockets import tcp_listener
from meshtls.server.core import Core
from meshtls.server.revoking import crl_number, revocable
from meshtls.server.store import revocations
from meshtls.serverapi.values import RevokedSvid
from meshtls.svid.x509 import serial_text

__all__ = ["serving_revocations"]

_CRL_LIFE = timedelta(minutes=10)

log = logger("meshtls.server")


@asynccontextmanager
async def serving_revocations(core: Core) -> AsyncIterator[int | None]:
    """Publish while the body runs, if configured. Yields the port. Raises ConfigError."""
    listen = core.config.revocation_listen
    if listen is None:
        yield None
        return
    with tcp_listener(listen.host, listen.port, name="revocation.listen") as listener:
        lookup = _Lookup(core)
        async with serve_revocation(listener, lookup, core.clock) as serving:
            port: int = listener.getsockname()[1]
            log.info("CRLs and OCSP are served on http://%s:%d", listen.host, port)
            with core.hub.told_of_revocations(lookup.forget), core.hub.told_of_revocations(serving.forget):
                yield port


@dataclass(frozen=True, slots=True)
class _Issuer:
    """A CA, with the authority that what it signs hangs on, and the kinds of that on record."""

    authority_id: str
    kinds: tuple[str, ...]
    signer: Signer
    ocsp: OcspSigner


class _Lookup:
    """Implements RevocationLookup. A CRL is kept until half of its life is over, or something is revoked."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._issuers: dict[str, _Issuer] = {}
        self._kept: dict[str, CrlFile] = {}
        self._generation = 0

    def forget(self) -> None:
        self._generation += 1
        self._kept.clear()

    async def crl(self, name: str) -> CrlFile | None:
        issuer = self._present().get(name.removesuffix(CRL_SUFFIX)) if name.endswith(CRL_SUFFIX) else None
        if issuer is None:
            return None
        now = self._core.clock.now()
        kept = self._kept.get(name)
        if kept is not None and kept.this_update <= now <= kept.this_update + _CRL_LIFE / 2:
            return kept
        generation = self._generation
        made = await self._made(issuer, now)
        if generation == self._generation:
            self._kept[name] = made
        return made

    async def state(self, signer: OcspSigner, serial_number: int) -> CertificateState:
        # Before the store is asked: the issuer may end meanwhile, and another request have it forgotten.
        [issuer] = [one for one in self._issuers.values() if one.ocsp is signer]
        async with self._core.database.read() as tx:
            found = await revocations.find_certificate(tx, serial_text(f"{serial_number:x}"))
        if self._is_intermediate(issuer, serial_number):
            return OCSP_GOOD
        if found is None or found.kind not in issuer.kinds or not _hangs_on(found, issuer.authority_id):
            return NOT_ISSUED
        if found.revoked_at is None:
            return OCSP_GOOD
        return CertificateState.revoked(found.revoked_at, x509.ReasonFlags[found.reason])

    def _is_intermediate(self, issuer: _Issuer, serial_number: int) -> bool:
        """Whether this is an intermediate of this server below the root that is asked."""
        authority = self._core.authorities.keys.x509.get(issuer.authority_id)
        below = authority.crl_signers if authority else ()
        return issuer.signer not in below and serial_number in {one.certificate.serial_number for one in below}

    def signers(self) -> Sequence[OcspSigner]:
        return [one.ocsp for one in self._present().values()]

    def _present(self) -> dict[str, _Issuer]:
        """The issuers of this server that have not ended, by the hash of their key."""
        present: dict[str, _Issuer] = {}
        for authority_id, authority in self._core.authorities.keys.x509.items():
            for kinds, signers in revocable(authority):
                for signer in signers:
                    certificate = signer.certificate
                    issuer = crl_issuer(certificate)
                    present[issuer] = self._issuers.get(issuer) or _Issuer(
                        authority_id, kinds, signer, OcspSigner(certificate, certificate, signer.private_key)
                    )
        self._issuers = present
        return present

    async def _made(self, issuer: _Issuer, now: datetime) -> CrlFile:
        server_id = self._core.signing.server_id
        async with self._core.database.read() as tx:
            entries = await revocations.revoked_certificates(tx, issuer.kinds, issuer.authority_id, server_id, now)
        since, until = now - BACKDATE, now + _CRL_LIFE
        signer = issuer.signer
        der = build_crl(
            signer.certificate, signer.private_key, entries, number=crl_number(now), now=since, next_update=until
        )
        return CrlFile(der, since, until)


def _hangs_on(found: RevokedSvid, authority_id: str) -> bool:
    """Of an SVID that an older version issued the authority is not on record. A server's own intermediates have none,
    and can't be revoked.
    """
    return found.authority == authority_id or (found.authority is None and found.kind == "x509")
