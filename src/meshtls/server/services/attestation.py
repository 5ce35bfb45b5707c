"""Node attestation, over gRPC. An attestation ends within 15 seconds, done or not."""

from __future__ import annotations

import asyncio

from grpclib.server import Stream

from meshtls.errors import AccessError, RequestError
from meshtls.proto import server_grpc, server_pb
from meshtls.rpc.admission import address_caller
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations.attestation import Attestation, Attested
from meshtls.server.operations.bundles import get_bundle
from meshtls.serverapi.messages import bundle_message, svid_message

__all__ = ["AttestationService"]

_DEADLINE = 15.0
AttestStream = Stream[server_pb.AttestRequest, server_pb.AttestResponse]


class AttestationService(server_grpc.AttestationBase):
    def __init__(self, core: Core, attestation: Attestation, caller: Caller) -> None:
        self._core, self._attestation, self._caller = core, attestation, caller

    async def GetBundle(self, stream: Stream[server_pb.GetBundleRequest, server_pb.Bundle]) -> None:
        await received(stream)
        await stream.send_message(bundle_message(await get_bundle(self._core, self._caller)))

    async def AttestAgent(self, stream: AttestStream) -> None:
        try:
            async with asyncio.timeout(_DEADLINE):
                attested = await self._attest(stream)
        except TimeoutError as error:
            raise AccessError(f"the attestation was not finished within {_DEADLINE:g} s") from error
        svid = svid_message(attested.svid.record.spiffe_id, attested.svid.chain)
        message = server_pb.Attested(svid=svid, bundle=bundle_message(attested.bundle))
        await stream.send_message(server_pb.AttestResponse(attested=message))

    async def _attest(self, stream: AttestStream) -> Attested:
        request = await received(stream)
        kind = request.WhichOneof("proof")
        if kind == "join_token":
            address = stream.peer.addr()
            client = address_caller(address[0]) if address else "an unknown address"
            return await self._attestation.by_token(client, request.join_token, request.csr)
        if kind == "certificate":
            challenged = self._attestation.challenge(request.certificate.chain, request.csr)
            await stream.send_message(server_pb.AttestResponse(challenge=challenged.nonce))
            answer = (await received(stream)).answer
            return await self._attestation.by_certificate(challenged, answer.nonce, answer.signature)
        raise RequestError("attestation: wanted a join token or a certificate in the first message")
