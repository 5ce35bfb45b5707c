"""A client of any Workload API: its five methods, over a Unix socket or TCP.

A ``fetch`` is one attempt. A ``watch`` runs forever: it yields each full state, and retries when the connection or the
identity is lost: with a backoff that doubles, at once when the socket is created again, and every second while the
caller's ``urgent()`` is true.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from datetime import datetime
from types import TracebackType

from grpclib import Status
from grpclib.client import Channel

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, SystemClock
from meshtls.complaints import Complaints
from meshtls.errors import InvalidSvidError, LocalIdentityError, RequestError
from meshtls.logs import logger
from meshtls.proto import workload_pb as pb
from meshtls.proto.workload_grpc import SpiffeWorkloadAPIStub
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import JwtSvid
from meshtls.svid.trust import Trust
from meshtls.workload.address import Address, UnixAddress, address_from
from meshtls.workload.audience import audience_problem
from meshtls.workload.calls import Calls, OnFailure, OnWithoutSvid, Urgent, any_jitter
from meshtls.workload.convert import spiffe_ids, x509_bundles, x509_context, x509_trust
from meshtls.workload.convert_jwt import jwt_bundles, jwt_svids, validated
from meshtls.workload.failures import WorkloadApiError

__all__ = ["WorkloadApiClient"]

log = logger("meshtls.workload")


class WorkloadApiClient:
    """A client of the SPIFFE Workload API: ``async with WorkloadApiClient() as client``; the address is
    SPIFFE_ENDPOINT_SOCKET's unless given.

    ``timeout`` is in seconds, for each fetch and for the first message of each watch. Raises ConfigError for an invalid
    address; the methods raise WorkloadApiError, a LocalIdentityError. Unusable parts of a response are left out (see
    ``BundleSet.unusable``), and logged when they appear and when they are gone.
    """

    def __init__(
        self,
        address: Address | str | None = None,
        *,
        clock: Clock | None = None,
        timeout: float = 10.0,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.address = address_from(address, os.environ)
        self._stub: SpiffeWorkloadAPIStub | None = None
        self._calls = Calls(self.address, clock or SystemClock(), timeout, jitter or any_jitter)
        self._contexts, self._x509, self._jwt = Complaints(log), Complaints(log), Complaints(log)

    async def __aenter__(self) -> WorkloadApiClient:
        if isinstance(self.address, UnixAddress):
            self._channel = Channel(path=self.address.path)
        else:
            self._channel = Channel(self.address.host, self.address.port)
        self._stub = SpiffeWorkloadAPIStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stub = None
        self._channel.close()

    async def fetch_x509_context(self, on_without_svid: OnWithoutSvid | None = None) -> X509Context:
        """All X509-SVIDs of this process and its X.509 bundles, as generation 1.

        ``on_without_svid`` as of ``watch_x509_contexts``.
        """
        return await self._calls.first(
            self._api.FetchX509SVID, pb.X509SVIDRequest(), lambda reply: self._context(reply, 1), on_without_svid
        )

    async def fetch_x509_bundles(self) -> BundleSet:
        """The X.509 bundles alone; a Workload API may give them to a process without an identity."""
        return await self._calls.first(self._api.FetchX509Bundles, pb.X509BundlesRequest(), self._x509_bundles)

    async def fetch_x509_trust(self) -> Trust:
        """The bundles and the CRLs that come with them, as generation 1: what ``verify_peer`` takes."""
        return await self._calls.first(self._api.FetchX509Bundles, pb.X509BundlesRequest(), self._trust)

    async def fetch_jwt_bundles(self) -> BundleSet:
        """The bundles with JWT keys only."""
        return await self._calls.first(self._api.FetchJWTBundles, pb.JWTBundlesRequest(), self._jwt_bundles)

    async def fetch_jwt_svids(
        self, audience: Collection[str], spiffe_id: SpiffeId | None = None
    ) -> tuple[JwtSvid, ...]:
        """A token for all of ``audience`` per identity of this process, the default first, or of ``spiffe_id`` alone.

        Also raises RequestError for an audience that no token can have: empty, or of more than 32 KiB as JSON.
        """
        problem = audience_problem(audience)
        if problem:
            raise RequestError(f"JWT-SVID: audience: {problem}")
        request = pb.JWTSVIDRequest(audience=audience, spiffe_id=str(spiffe_id or ""))
        return jwt_svids(await self._calls.ask(self._api.FetchJWTSVID, request), audience)

    async def validate_jwt_svid(self, token: str, audience: str) -> JwtSvid:
        """Have the Workload API validate a peer's token. Also raises InvalidSvidError where it rejects the token."""
        request = pb.ValidateJWTSVIDRequest(svid=token, audience=audience)
        try:
            return validated(await self._calls.ask(self._api.ValidateJWTSVID, request), token)
        except WorkloadApiError as error:
            if error.status is Status.INVALID_ARGUMENT:
                raise InvalidSvidError(f"JWT-SVID refused by the Workload API at {self.address}: {error}") from error
            raise

    def watch_x509_contexts(
        self,
        on_failure: OnFailure | None = None,
        urgent: Urgent | None = None,
        on_without_svid: OnWithoutSvid | None = None,
    ) -> AsyncGenerator[X509Context]:
        """Each state as it arrives, with generations counted from 1.

        Ends only by raising a WorkloadApiError that is not temporary.

        - ``on_failure`` is called with the error of each failed attempt. If it ``withdraws``, earlier states must no
          longer be used.
        - ``urgent`` is called each second before the next attempt, and ends the wait by returning True.
        - ``on_without_svid`` is called at the beginning of each stream with the SPIFFE IDs that this process has by an
          entry, and of which the Workload API has no valid SVID now. Only an agent of meshtls tells them.
        """
        generation = 0

        def convert(reply: pb.X509SVIDResponse) -> X509Context:
            nonlocal generation
            context = self._context(reply, generation + 1)
            generation += 1
            return context

        method, request = self._api.FetchX509SVID, pb.X509SVIDRequest()
        return self._calls.watch(method, request, convert, on_failure, urgent, on_without_svid)

    def watch_spiffe_ids(self, on_failure: OnFailure | None = None) -> AsyncGenerator[Mapping[str, datetime | None]]:
        """As watch_x509_contexts, with only the IDs that have an X509-SVID, and its end where it can be read."""
        return self._calls.watch(self._api.FetchX509SVID, pb.X509SVIDRequest(), spiffe_ids, on_failure)

    def watch_x509_bundles(
        self, on_failure: OnFailure | None = None, urgent: Urgent | None = None
    ) -> AsyncGenerator[BundleSet]:
        """As watch_x509_contexts, for the X.509 bundles."""
        method, request = self._api.FetchX509Bundles, pb.X509BundlesRequest()
        return self._calls.watch(method, request, self._x509_bundles, on_failure, urgent)

    def watch_x509_trust(
        self, on_failure: OnFailure | None = None, urgent: Urgent | None = None
    ) -> AsyncGenerator[Trust]:
        """As watch_x509_contexts, for the bundles and CRLs."""
        newest: Trust | None = None

        def convert(reply: pb.X509BundlesResponse) -> Trust:
            nonlocal newest
            trust = self._trust(reply)
            newest = trust if newest is None else newest.followed_by(trust.bundles, trust.revocations)
            return newest

        method, request = self._api.FetchX509Bundles, pb.X509BundlesRequest()
        return self._calls.watch(method, request, convert, on_failure, urgent)

    def watch_jwt_bundles(
        self, on_failure: OnFailure | None = None, urgent: Urgent | None = None
    ) -> AsyncGenerator[BundleSet]:
        """As watch_x509_contexts, for the JWT bundles."""
        method, request = self._api.FetchJWTBundles, pb.JWTBundlesRequest()
        return self._calls.watch(method, request, self._jwt_bundles, on_failure, urgent)

    def __repr__(self) -> str:
        return f"<WorkloadApiClient {self.address}>"

    def _context(self, reply: pb.X509SVIDResponse, generation: int) -> X509Context:
        context = x509_context(reply, generation)
        self._contexts.update(context.unusable)
        return context

    def _x509_bundles(self, reply: pb.X509BundlesResponse) -> BundleSet:
        bundles = x509_bundles(reply)
        self._x509.update(bundles.unusable)
        return bundles

    def _trust(self, reply: pb.X509BundlesResponse) -> Trust:
        trust, unusable = x509_trust(reply, 1)
        self._x509.update(unusable)
        return trust

    def _jwt_bundles(self, reply: pb.JWTBundlesResponse) -> BundleSet:
        bundles = jwt_bundles(reply)
        self._jwt.update(bundles.unusable)
        return bundles

    @property
    def _api(self) -> SpiffeWorkloadAPIStub:
        if self._stub is None:
            raise LocalIdentityError(f"the client of {self.address} is not open: use it inside 'async with'")
        return self._stub
