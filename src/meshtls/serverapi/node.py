"""The server's API for agents: attest, renew, sign, sync. Each client takes a channel of ``serverapi.channels``.

Each call but ``sync`` ends within 15 seconds. All raise AccessError if the server refuses the caller, RequestError or
NotFoundError for an invalid request, and LocalIdentityError if the server can't be reached or can't serve now.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from grpclib.client import Channel

from meshtls.bundle import TrustBundle
from meshtls.errors import LocalIdentityError, MeshtlsError
from meshtls.proto import server_grpc, server_pb
from meshtls.serverapi.channels import CALL_SECONDS, error_of, our_errors
from meshtls.serverapi.messages import bundle_of, chain_of, update_of
from meshtls.serverapi.values import SyncUpdate
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import PrivateKey
from meshtls.x509pop import Challenge, new_nonce, prove

__all__ = ["AttestationClient", "Attested", "NodeClient"]

# The server sends a message at least every 30 seconds.
_SILENCE_SECONDS = 90.0

Chain = tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class Attested:
    """An agent's certificate chain, leaf first, and the bundle of its trust domain."""

    chain: Chain
    bundle: TrustBundle


class AttestationClient:
    """A client for a node that has no SVID yet."""

    def __init__(self, channel: Channel) -> None:
        self._stub = server_grpc.AttestationStub(channel)

    async def bundle(self) -> TrustBundle:
        with our_errors():
            return bundle_of(await self._stub.GetBundle(server_pb.GetBundleRequest(), timeout=CALL_SECONDS))

    async def with_token(self, token: str, csr: bytes) -> Attested:
        """Attest by a join token, which can be used once; ``csr`` is DER."""
        request = server_pb.AttestRequest(csr=csr, join_token=token)
        with our_errors():
            async with self._stub.AttestAgent.open(timeout=CALL_SECONDS) as stream:
                await stream.send_message(request, end=True)
                answered = await stream.recv_message()
            return _attested(answered)  # after the stream's end, which raises the server's refusal

    async def with_certificate(
        self, chain: Sequence[x509.Certificate], key: PrivateKey, trust_domain: TrustDomain, csr: bytes
    ) -> Attested:
        """Attest by proving possession of the key of the node's own certificate; ``chain`` is leaf first."""
        proof = server_pb.CertificateProof(chain=[one.public_bytes(Encoding.DER) for one in chain])
        with our_errors():
            async with self._stub.AttestAgent.open(timeout=CALL_SECONDS) as stream:
                await stream.send_message(server_pb.AttestRequest(csr=csr, certificate=proof))
                challenged = await stream.recv_message()
                nonce = new_nonce()
                asked = Challenge(trust_domain, csr, challenged.challenge if challenged else b"", nonce)
                answer = server_pb.ChallengeAnswer(nonce=nonce, signature=prove(key, asked))
                await stream.send_message(server_pb.AttestRequest(answer=answer), end=True)
                answered = await stream.recv_message()
            return _attested(answered)


class NodeClient:
    """A client for an attested agent."""

    def __init__(self, channel: Channel) -> None:
        self._stub = server_grpc.NodeStub(channel)

    async def bundle(self) -> TrustBundle:
        with our_errors():
            return bundle_of(await self._stub.GetBundle(server_pb.GetBundleRequest(), timeout=CALL_SECONDS))

    async def renew(self, csr: bytes) -> Chain:
        """The agent's next certificate; the current one stays valid until the next is first used."""
        with our_errors():
            return chain_of(await self._stub.RenewAgent(server_pb.RenewAgentRequest(csr=csr), timeout=CALL_SECONDS))

    async def sign_x509(self, requests: Sequence[tuple[str, bytes]]) -> list[Chain | MeshtlsError]:
        """For each (entry id, CSR), in order: a chain, leaf first, or the error for this request."""
        asked = [server_pb.EntryCsr(entry_id=key, csr=csr) for key, csr in requests]
        with our_errors():
            answer = await self._stub.SignX509(server_pb.SignX509Request(requests=asked), timeout=CALL_SECONDS)
        if len(answer.results) != len(requests):
            raise LocalIdentityError(f"the server answered {len(answer.results)} of {len(requests)} requests")
        return [
            chain_of(result.svid)
            if result.WhichOneof("result") == "svid"
            else error_of(result.refusal.status, result.refusal.message)
            for result in answer.results
        ]

    async def sign_jwt(self, entry_id: str, audience: Collection[str]) -> str:
        """A JWT-SVID for the entry's SPIFFE ID."""
        request = server_pb.SignJwtRequest(entry_id=entry_id, audience=audience)
        with our_errors():
            return (await self._stub.SignJwt(request, timeout=CALL_SECONDS)).token

    async def confirm_bundle(self, sequence: int) -> None:
        """The agent and its workloads have the bundle of their trust domain with this sequence."""
        with our_errors():
            await self._stub.ConfirmBundle(server_pb.ConfirmBundleRequest(sequence=sequence), timeout=CALL_SECONDS)

    async def sync(self, revision: int = 0) -> AsyncGenerator[SyncUpdate]:
        """The entries and bundles of this agent: all, or the changes since ``revision``, then each later change.

        Ends only by an error.
        """
        with our_errors():
            async with self._stub.Sync.open() as stream:
                await stream.send_message(server_pb.SyncRequest(revision=revision), end=True)
                while True:
                    async with asyncio.timeout(_SILENCE_SECONDS):
                        message = await stream.recv_message()
                    if message is None:
                        break
                    yield update_of(message)
        raise LocalIdentityError("the server ended the sync")


def _attested(response: server_pb.AttestResponse | None) -> Attested:
    if response is None or response.WhichOneof("step") != "attested":
        raise LocalIdentityError("the server did not finish the attestation")
    return Attested(chain_of(response.attested.svid), bundle_of(response.attested.bundle))
