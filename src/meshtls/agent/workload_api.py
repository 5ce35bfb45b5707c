"""The SPIFFE Workload API (SPIFFE Workload API, sections 4 to 6): five methods, for the calling process.

Each message of a stream is the caller's whole state. It is computed after the previous one was sent, so a slow reader
skips intermediate states.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message
from grpclib import GRPCError, Status
from grpclib.server import Stream

from meshtls.agent.cache import View
from meshtls.agent.caller_views import CallerViews, Watch
from meshtls.agent.tokens import Tokens
from meshtls.errors import MeshtlsError, NotFoundError, PeerError, RequestError
from meshtls.proto import workload_pb as pb
from meshtls.proto.workload_grpc import SpiffeWorkloadAPIBase
from meshtls.registration import Entry
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import JwtSvid, parse_and_validate
from meshtls.svid.trust import Trust
from meshtls.workload.audience import audience_problem
from meshtls.workload.calls import MOST_WITHOUT_SVID, WITHOUT_SVID
from meshtls.workload.convert import first_of_each_hint, x509_context_message, x509_trust_message
from meshtls.workload.convert_jwt import jwt_bundles_message, jwt_svids_message, validated_message

__all__ = ["WorkloadApi"]

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)
_HEADER = "workload.spiffe.io"


class WorkloadApi(SpiffeWorkloadAPIBase):
    """Serve it with ``serve_callers``. Refuses with the statuses of the standard, raised as GRPCError."""

    def __init__(self, callers: CallerViews, tokens: Tokens) -> None:
        self._callers = callers
        self._tokens = tokens

    async def FetchX509SVID(self, stream: Stream[pb.X509SVIDRequest, pb.X509SVIDResponse]) -> None:  # noqa: N802
        await self._follow(stream, Watch.settled, _x509_svids, _without_svid)

    async def FetchX509Bundles(  # noqa: N802
        self, stream: Stream[pb.X509BundlesRequest, pb.X509BundlesResponse]
    ) -> None:
        await self._follow(
            stream, Watch.view, lambda view: x509_trust_message(Trust(0, view.bundles, view.revocations))
        )

    async def FetchJWTBundles(  # noqa: N802
        self, stream: Stream[pb.JWTBundlesRequest, pb.JWTBundlesResponse]
    ) -> None:
        await self._follow(stream, Watch.view, lambda view: jwt_bundles_message(view.bundles))

    async def FetchJWTSVID(self, stream: Stream[pb.JWTSVIDRequest, pb.JWTSVIDResponse]) -> None:  # noqa: N802
        request = await _request(stream)
        problem = audience_problem(request.audience)
        if problem:
            raise GRPCError(Status.INVALID_ARGUMENT, f"audience: {problem}")
        try:
            wanted = SpiffeId.parse(request.spiffe_id) if request.spiffe_id else None
        except RequestError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        entries = (await self._callers.view()).entries
        entries = first_of_each_hint(one for one in entries if wanted in (None, one.spiffe_id))
        if not entries:
            raise GRPCError(Status.PERMISSION_DENIED, f"no identity {wanted} was issued to the caller")
        await stream.send_message(jwt_svids_message([await self._token(one, request.audience) for one in entries]))

    async def ValidateJWTSVID(  # noqa: N802
        self, stream: Stream[pb.ValidateJWTSVIDRequest, pb.ValidateJWTSVIDResponse]
    ) -> None:
        request = await _request(stream)
        if not request.audience:
            raise GRPCError(Status.INVALID_ARGUMENT, "audience: wanted the caller's own name, got nothing")
        bundles = (await self._callers.view()).bundles
        try:
            svid = parse_and_validate(request.svid, bundles, request.audience, self._callers.identities.clock.now())
            message = validated_message(svid)
        except PeerError as error:
            raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
        await stream.send_message(message)

    async def _follow(
        self,
        stream: Stream[Q, R],
        look: Callable[[Watch], Awaitable[View]],
        convert: Callable[[View], R],
        metadata: Callable[[View], dict[str, str]] = lambda view: {},
    ) -> None:
        await _request(stream)
        last: R | None = None
        with self._callers.watch() as watch:
            while True:
                view = await look(watch)
                message = convert(view)
                if last is None:
                    await stream.send_initial_metadata(metadata=metadata(view))
                if message != last:
                    await stream.send_message(message)
                    last = message
                await watch.news.wait()

    async def _token(self, entry: Entry, audience: Sequence[str]) -> JwtSvid:
        try:
            return await self._tokens.fetch(entry, audience)
        except MeshtlsError as error:
            # An entry that is not found was removed just now: the caller gets PERMISSION_DENIED when it calls again.
            wrong = isinstance(error, RequestError) and not isinstance(error, NotFoundError)
            status = Status.INVALID_ARGUMENT if wrong else Status.UNAVAILABLE
            raise GRPCError(status, f"JWT-SVID of {entry.spiffe_id}: {error}") from error


async def _request(stream: Stream[Q, R]) -> Q:
    if stream.metadata is None or stream.metadata.get(_HEADER) != "true":
        raise GRPCError(Status.INVALID_ARGUMENT, f"security header missing: wanted metadata {_HEADER}: true")
    request = await stream.recv_message()
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "wanted a request message, got none")
    return request


def _without_svid(view: View) -> dict[str, str]:
    """Our own answer: the identities that entries give the caller, and for which there is no valid SVID now."""
    held = {svid.spiffe_id for svid in view.svids}
    names = [str(one.spiffe_id) for one in view.entries if one.spiffe_id not in held][:MOST_WITHOUT_SVID]
    return {WITHOUT_SVID: " ".join(dict.fromkeys(names))} if names else {}


def _x509_svids(view: View) -> pb.X509SVIDResponse:
    if not view.svids:
        raise GRPCError(Status.UNAVAILABLE, f"no X509-SVID is valid now: {view.trouble or 'it has expired'}")
    svids = first_of_each_hint(view.svids)
    return x509_context_message(X509Context(0, svids, view.bundles, revocations=view.revocations))
