"""Node attestation: by a join token, or by proving possession of the key of the node's own certificate.

The use of the token or proof, the agent's record and the record of its certificate are one transaction: a token is used
up exactly when the certificate that it gave is on record.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import NameOID
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.budget import Budgets
from meshtls.bundle import TrustBundle
from meshtls.errors import AccessError, InvalidSvidError, OverloadError, RequestError
from meshtls.registration import AgentRecord, Selector, agent_id
from meshtls.rpc.shedding import Refusal, Refusals
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core
from meshtls.server.signing import Signed
from meshtls.server.store import agents, tokens
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import fingerprint_of
from meshtls.x509pop import Challenge, check_node_chain, check_proof, new_nonce

__all__ = ["Attestation", "Attested", "Challenged"]

#: Per second and client address, which may accumulate ten seconds' worth.
_WRONG_TOKENS_PER_SECOND = 2.0
#: Concurrent lookups, out of the store's eight read connections; the others are left to administrators and agents.
_LOOKUPS_AT_ONCE = 4
_WRONG_TOKEN = "join token: it is unknown, used or expired; make a new one with `meshtls token generate`"  # noqa: S105


@dataclass(frozen=True, slots=True)
class Attested:
    """The new agent's SVID, and the bundle of its trust domain."""

    svid: Signed
    bundle: TrustBundle


@dataclass(frozen=True, slots=True)
class Challenged:
    """A pending attestation by certificate.

    ``path`` is verified and begins with the node's certificate; ``nonce`` is the challenge to send.
    """

    path: tuple[x509.Certificate, ...]
    nonce: bytes
    csr: bytes


class Attestation:
    """Operations for anonymous callers. A wrong token costs one lookup, charged to the client's address."""

    def __init__(self, core: Core, refusals: Refusals) -> None:
        self._core = core
        self._refusals = refusals
        self._wrong_tokens = Budgets(_WRONG_TOKENS_PER_SECOND)
        self._lookups = asyncio.Semaphore(_LOOKUPS_AT_ONCE)

    async def by_token(self, address: str, token: str, csr: bytes) -> Attested:
        """Attest the agent that a join token is for. ``address`` is the client's, without port.

        Raises AccessError, OverloadError, RequestError, StoreError.
        """
        if not self._core.config.join_token:
            raise AccessError("join_token: this node attestor is not configured here")
        await self._check_token(address, token)
        async with self._core.change() as tx:
            spiffe_id = await tokens.consume_token(tx, token, self._core.clock.now())
            if spiffe_id is None:
                raise AccessError(_WRONG_TOKEN)
            signed = await self._enrol(tx, spiffe_id, "join_token", csr, credential="a join token", address=address)
        self._core.ledger.committed([signed])
        return Attested(signed, self._core.hub.bundle)

    def challenge(self, chain: Sequence[bytes], csr: bytes) -> Challenged:
        """Verify a node's DER chain, leaf first, and choose the challenge. Raises AccessError, RequestError."""
        if not self._core.node_roots:
            raise AccessError("x509pop: this node attestor is not configured here")
        try:
            path = check_node_chain(chain, self._core.node_roots, self._core.clock.now())
        except InvalidSvidError as error:
            raise RequestError(f"x509pop: {error}") from error
        return Challenged(path, new_nonce(), csr)

    async def by_certificate(self, challenged: Challenged, node_nonce: bytes, signature: bytes) -> Attested:
        """Attest the node that answers its challenge. Raises AccessError, RequestError, StoreError."""
        path, trust_domain = challenged.path, self._core.hub.trust_domain
        check_proof(path[0], Challenge(trust_domain, challenged.csr, challenged.nonce, node_nonce), signature)
        spiffe_id = agent_id(trust_domain, "x509pop", fingerprint_of(path[0]))
        async with self._core.change() as tx:
            certificate = f"certificate {fingerprint_of(path[0])}"
            signed = await self._enrol(
                tx, spiffe_id, "x509pop", challenged.csr, _selectors(path), credential=certificate
            )
        self._core.ledger.committed([signed])
        return Attested(signed, self._core.hub.bundle)

    async def _check_token(self, address: str, token: str) -> None:
        """Refuse a wrong token without the store's only writer (SQLite). Raises AccessError, OverloadError."""
        guesses, now = self._wrong_tokens.of(address, time.monotonic()), time.monotonic()
        # Charged before the lookup, so that concurrent guesses share the budget; refunded for a valid token.
        if not guesses.take(1, now):
            self._refusals.count("attestation port", Refusal.GUESSES)
            seconds = math.ceil(guesses.seconds_until(1, now))
            raise OverloadError(f"join token: too many wrong ones from {address}; try again in {seconds} s")
        async with self._lookups, self._core.database.read() as tx:
            usable = await tokens.is_usable_token(tx, token, self._core.clock.now())
        if not usable:
            raise AccessError(_WRONG_TOKEN)
        guesses.give_back(1)

    async def _enrol(
        self,
        tx: AsyncConnection,
        spiffe_id: SpiffeId,
        kind: str,
        csr: bytes,
        selectors: tuple[Selector, ...] = (),
        *,
        credential: str,
        address: str = "",
    ) -> Signed:
        signed = self._core.signing.x509(spiffe_id, csr, self._core.config.agent_ttl, agent_id=spiffe_id)
        record = AgentRecord(
            spiffe_id=spiffe_id,
            type=kind,
            serials=(signed.record.serial,),
            not_after=signed.record.not_after,
            attested_at=self._core.clock.now(),
            selectors=selectors,
        )
        await agents.put_agent(tx, record)
        node = Caller(Role.ANONYMOUS, f"node {address}".rstrip())
        act = self._core.trail.record(node, "attest agent", spiffe_id, credential=credential)
        await self._core.ledger.record(tx, [(act, [signed])])
        return signed


def _selectors(path: tuple[x509.Certificate, ...]) -> tuple[Selector, ...]:
    names = path[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    said = [f"subject:cn:{name.value}" for name in names if isinstance(name.value, str) and name.value]
    said += [f"ca:fingerprint:{fingerprint_of(one)}" for one in path[1:]]
    return tuple(Selector("x509pop", one) for one in said)
