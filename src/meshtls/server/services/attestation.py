"""How a node becomes an agent: by a join token, or by a certificate of its own whose key it proves to hold.

Token or proof, the agent's record and the record of its certificate are one transaction: a token is used up exactly
when the certificate that it gave is on record.
"""

from __future__ import annotations

import asyncio
import math
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from grpclib.server import Stream
from sqlalchemy.ext.asyncio import AsyncConnection

from meshtls.errors import AccessError, InvalidSvidError, OverloadError, RequestError
from meshtls.proto import server_grpc, server_pb
from meshtls.registration import AgentRecord, Selector, agent_id
from meshtls.rpc.admission import address_caller
from meshtls.rpc.budget import Budgets
from meshtls.rpc.calls import received
from meshtls.rpc.shedding import Refusal, Refusals
from meshtls.server.core import Core
from meshtls.server.signing import Signed
from meshtls.server.store import agents, issuances, tokens
from meshtls.serverapi.messages import bundle_message, svid_message
from meshtls.spiffeid import SpiffeId
from meshtls.x509pop import Challenge, check_node_chain, check_proof, new_nonce

__all__ = ["AttestationService"]

_DEADLINE = 15.0
#: Of one address, which may save up ten seconds of it.
_WRONG_TOKENS_PER_SECOND = 2.0
#: Of the store's eight connections that read; administrators and agents have the others.
_LOOKS_AT_ONCE = 4
_WRONG_TOKEN = "join token: it is unknown, used or expired; make a new one with `meshtls token generate`"  # noqa: S105
AttestStream = Stream[server_pb.AttestRequest, server_pb.AttestResponse]


class AttestationService(server_grpc.AttestationBase):
    """Callers are anonymous here. An attestation ends within 15 seconds, done or not.

    A wrong token costs a look into the store and a share of what its address may guess.
    """

    def __init__(self, core: Core, refusals: Refusals) -> None:
        self._core = core
        self._refusals = refusals
        self._wrong_tokens = Budgets(_WRONG_TOKENS_PER_SECOND)
        self._looks = asyncio.Semaphore(_LOOKS_AT_ONCE)

    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None:
        await received(stream)
        await stream.send_message(bundle_message(self._core.hub.bundle))

    async def AttestAgent(self, stream: AttestStream) -> None:
        try:
            async with asyncio.timeout(_DEADLINE):
                attested = await self._attest(stream)
        except TimeoutError as error:
            raise AccessError(f"the attestation was not finished within {_DEADLINE:g} s") from error
        await stream.send_message(server_pb.AttestResponse(attested=attested))

    async def _attest(self, stream: AttestStream) -> server_pb.Attested:
        request = await received(stream)
        kind = request.WhichOneof("proof")
        if kind == "join_token":
            return await self._by_token(stream, request)
        if kind == "certificate":
            return await self._by_certificate(stream, request)
        raise RequestError("attestation: wanted a join token or a certificate in the first message")

    async def _by_token(self, stream: AttestStream, request: server_pb.AttestRequest) -> server_pb.Attested:
        if not self._core.config.join_token:
            raise AccessError("join_token: this node attestor is not configured here")
        await self._check_token(_address(stream), request.join_token)
        async with self._core.database.write() as tx:
            spiffe_id = await tokens.consume_token(tx, request.join_token, self._core.clock.now())
            if spiffe_id is None:
                raise AccessError(_WRONG_TOKEN)
            signed = await self._enrol(tx, spiffe_id, "join_token", request.csr)
        return await self._welcome(signed)

    async def _check_token(self, address: str, token: str) -> None:
        """A guess is refused without the store's one writer (SQLite). Raises AccessError, OverloadError."""
        guesses, now = self._wrong_tokens.of(address, time.monotonic()), time.monotonic()
        # Taken before the look, so that guesses side by side share it too; a good token costs nothing in the end.
        if not guesses.take(1, now):
            self._refusals.count("attestation port", Refusal.GUESSES)
            seconds = math.ceil(guesses.seconds_until(1, now))
            raise OverloadError(f"join token: too many wrong ones from {address}; try again in {seconds} s")
        async with self._looks, self._core.database.read() as tx:
            usable = await tokens.is_usable_token(tx, token, self._core.clock.now())
        if not usable:
            raise AccessError(_WRONG_TOKEN)
        guesses.give_back(1)

    async def _by_certificate(self, stream: AttestStream, request: server_pb.AttestRequest) -> server_pb.Attested:
        if not self._core.node_roots:
            raise AccessError("x509pop: this node attestor is not configured here")
        path = _node_path(request.certificate, self._core)
        nonce = new_nonce()
        await stream.send_message(server_pb.AttestResponse(challenge=nonce))
        answer = (await received(stream)).answer
        challenge = Challenge(self._core.hub.trust_domain, request.csr, nonce, answer.nonce)
        check_proof(path[0], challenge, answer.signature)
        spiffe_id = agent_id(self._core.hub.trust_domain, "x509pop", path[0].fingerprint(hashes.SHA256()).hex())
        async with self._core.database.write() as tx:
            signed = await self._enrol(tx, spiffe_id, "x509pop", request.csr, _selectors(path))
        return await self._welcome(signed)

    async def _enrol(
        self, tx: AsyncConnection, spiffe_id: SpiffeId, kind: str, csr: bytes, selectors: tuple[Selector, ...] = ()
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
        await issuances.record_issuances(tx, [signed.record])
        return signed

    async def _welcome(self, signed: Signed) -> server_pb.Attested:
        await self._core.hub.written()
        svid = svid_message(signed.record.spiffe_id, signed.chain)
        return server_pb.Attested(svid=svid, bundle=bundle_message(self._core.hub.bundle))


def _address(stream: AttestStream) -> str:
    address = stream.peer.addr()
    return address_caller(address[0]) if address else "an unknown address"


def _node_path(proof: server_pb.CertificateProof, core: Core) -> tuple[x509.Certificate, ...]:
    try:
        return check_node_chain(proof.chain, core.node_roots, core.clock.now())
    except InvalidSvidError as error:
        raise RequestError(f"x509pop: {error}") from error


def _selectors(path: tuple[x509.Certificate, ...]) -> tuple[Selector, ...]:
    names = path[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    said = [f"subject:cn:{name.value}" for name in names if isinstance(name.value, str) and name.value]
    said += [f"ca:fingerprint:{one.fingerprint(hashes.SHA256()).hex()}" for one in path[1:]]
    return tuple(Selector("x509pop", one) for one in said)
