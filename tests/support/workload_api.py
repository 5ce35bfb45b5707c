"""A real Workload API on its own socket, whose state a test sets: SVIDs, bundles, refusals, silence.

async with workload_api(tmp_path / "api.sock", context_for(authority, "/web")) as api:
    api.push(context_for(authority, "/web"))  # a rotation, to every open stream
    api.refuse(Status.PERMISSION_DENIED)      # the entry goes: open streams end, new calls are refused
    await api.stop(); await api.start()       # the agent restarts
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.errors import PeerError
from meshtls.proto import workload_pb as pb
from meshtls.proto.workload_grpc import SpiffeWorkloadAPIBase
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import JwtSvid, parse_and_validate, sign
from meshtls.workload.convert import x509_bundles_message, x509_context_message
from meshtls.workload.convert_jwt import jwt_bundles_message, jwt_svids_message, validated_message
from tests.support.certs import key

__all__ = ["JWT_KEY_ID", "WorkloadApi", "workload_api"]

JWT_KEY_ID = "jwt-1"
M = TypeVar("M", bound=Message)


class _Server(Server):
    """grpclib's own ``close`` leaves connections open, so a client would wait forever for a stopped agent."""

    def __init__(self, api: WorkloadApi) -> None:
        super().__init__([api])
        self._protocols: list[H2Protocol] = []

    def _protocol_factory(self) -> H2Protocol:
        self._protocols.append(super()._protocol_factory())
        return self._protocols[-1]

    def close(self) -> None:
        super().close()
        for protocol in self._protocols:
            if hasattr(protocol, "processor"):  # once the event loop has created the connection
                protocol.processor.close()


class WorkloadApi(SpiffeWorkloadAPIBase):
    """One caller's view: every connection gets the same state.

    - ``calls``: the number of calls by method name.
    - ``ders``, ``documents``: federated bundles by name, X.509 and JWT, sent unchanged after the context's.
    """

    def __init__(self, path: Path, context: X509Context, clock: Clock | None = None) -> None:
        self.path = path
        self.context = context
        self.calls: Counter[str] = Counter()
        self.jwt_ttl = timedelta(minutes=5)
        self.jwt_age = timedelta(0)
        self.jwt_key_id = JWT_KEY_ID
        self.silent = False
        self.ders: dict[str, bytes] = {}
        self.documents: dict[str, bytes] = {}
        self._clock = clock or SystemClock()
        self._refusal: Status | None = None
        self._changed = asyncio.Event()
        self._called = asyncio.Event()
        self._server: Server | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.path}"

    @property
    def jwt_bundles(self) -> BundleSet:
        """The context's bundles, our own trust domain's with the key that signs JWT-SVIDs here."""
        own = self.context.svid.spiffe_id.trust_domain
        keys = {self.jwt_key_id: key("workload-api-jwt").public_key()}
        return BundleSet(
            replace(b, jwt_authorities=keys if b.trust_domain == own else {}) for b in self.context.bundles
        )

    async def start(self, listener: socket.socket | None = None) -> None:
        """Listen at the path, or on the given socket."""
        self._server = _Server(self)
        if listener is not None:
            await self._server.start(sock=listener)
        else:
            self.path.unlink(missing_ok=True)
            await self._server.start(path=str(self.path))

    async def stop(self) -> None:
        """Stop listening and abort every connection."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def push(self, context: X509Context) -> None:
        """Set the state, and push it to open streams; ends a refusal."""
        self.context, self._refusal = context, None
        self._wake()

    def refuse(self, status: Status) -> None:
        """From now on every call, open streams included, ends with this status."""
        self._refusal = status
        self._wake()

    def refuse_calls(self, status: Status) -> None:
        """From now on every new call ends with this status; open streams continue."""
        self._refusal = status

    async def until_called(self, method: str, times: int) -> None:
        """Wait until this method was called this many times."""
        while self.calls[method] < times:
            self._called.clear()
            await self._called.wait()

    async def FetchX509SVID(self, stream: Stream[pb.X509SVIDRequest, pb.X509SVIDResponse]) -> None:  # noqa: N802
        await self._serve("FetchX509SVID", stream, self._x509_svids)

    async def FetchX509Bundles(  # noqa: N802
        self, stream: Stream[pb.X509BundlesRequest, pb.X509BundlesResponse]
    ) -> None:
        await self._serve("FetchX509Bundles", stream, self._x509_bundles)

    async def FetchJWTBundles(  # noqa: N802
        self, stream: Stream[pb.JWTBundlesRequest, pb.JWTBundlesResponse]
    ) -> None:
        await self._serve("FetchJWTBundles", stream, self._jwt_bundles)

    async def FetchJWTSVID(self, stream: Stream[pb.JWTSVIDRequest, pb.JWTSVIDResponse]) -> None:  # noqa: N802
        request = await self._admit("FetchJWTSVID", stream)
        if not request.audience:
            raise GRPCError(Status.INVALID_ARGUMENT, "audience must be specified")
        wanted = [svid.spiffe_id for svid in self.context.svids if request.spiffe_id in ("", str(svid.spiffe_id))]
        if not wanted:
            raise GRPCError(Status.PERMISSION_DENIED, "no identity issued")
        await stream.send_message(jwt_svids_message([self.mint(one, *request.audience) for one in wanted]))

    async def ValidateJWTSVID(  # noqa: N802
        self, stream: Stream[pb.ValidateJWTSVIDRequest, pb.ValidateJWTSVIDResponse]
    ) -> None:
        request = await self._admit("ValidateJWTSVID", stream)
        try:
            svid = parse_and_validate(request.svid, self.jwt_bundles, request.audience, self._clock.now())
        except PeerError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        await stream.send_message(validated_message(svid))

    def mint(self, spiffe_id: SpiffeId, *audience: str) -> JwtSvid:
        """A good JWT-SVID that lives for ``jwt_ttl``, unless it is older than that by ``jwt_age``."""
        signing_key, now = key("workload-api-jwt"), self._clock.now() - self.jwt_age
        return sign(spiffe_id, audience, key=signing_key, key_id=self.jwt_key_id, now=now, ttl=self.jwt_ttl)

    def _x509_svids(self) -> pb.X509SVIDResponse:
        message = x509_context_message(self.context)
        message.federated_bundles.update(self.ders)
        return message

    def _x509_bundles(self) -> pb.X509BundlesResponse:
        message = x509_bundles_message(self.context.bundles)
        message.bundles.update(self.ders)
        return message

    def _jwt_bundles(self) -> pb.JWTBundlesResponse:
        message = jwt_bundles_message(self.jwt_bundles)
        message.bundles.update(self.documents)
        return message

    async def _serve(self, method: str, stream: Stream[Any, M], state: Callable[[], M]) -> None:
        await self._admit(method, stream)
        while True:
            changed = self._changed
            await stream.send_message(state())
            await changed.wait()
            self._refuse_if_told()

    async def _admit(self, method: str, stream: Stream[Any, M]) -> Any:
        request = await stream.recv_message()
        self.calls[method] += 1
        self._called.set()
        if stream.metadata is None or stream.metadata.get("workload.spiffe.io") != "true":
            raise GRPCError(Status.INVALID_ARGUMENT, "security header missing from request")
        if self.silent:
            await asyncio.Event().wait()
        self._refuse_if_told()
        return request

    def _refuse_if_told(self) -> None:
        if self._refusal is not None:
            raise GRPCError(self._refusal, "no identity issued")

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@asynccontextmanager
async def workload_api(path: Path, context: X509Context, clock: Clock | None = None) -> AsyncIterator[WorkloadApi]:
    """A Workload API that listens at ``path`` while the body runs."""
    api = WorkloadApi(path, context, clock)
    await api.start()
    try:
        yield api
    finally:
        await api.stop()
