"""gRPC's health checking protocol on the agent's socket, for gRPC probes; it needs no security header.

As with SPIRE's agent, the health of single services is not reported, only that of the whole agent.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from grpclib import GRPCError, Status
from grpclib.server import Stream

from meshtls.clock import Clock
from meshtls.observe.readiness import Readiness
from meshtls.proto import health_pb as pb
from meshtls.proto.health_grpc import HealthBase

__all__ = ["HealthCheck", "ServingStatus"]

_LOOK_EVERY = 1.0


class ServingStatus(IntEnum):
    """The values of gRPC's HealthCheckResponse that the agent uses."""

    SERVING = 1
    NOT_SERVING = 2


class HealthCheck(HealthBase):
    """SERVING while ``/ready`` says ready."""

    def __init__(self, readiness: Callable[[], Readiness], clock: Clock) -> None:
        self._readiness = readiness
        self._clock = clock

    async def Check(  # noqa: N802
        self, stream: Stream[pb.HealthCheckRequest, pb.HealthCheckResponse]
    ) -> None:
        await _check_request(stream)
        await stream.send_message(pb.HealthCheckResponse(status=self._status()))

    async def Watch(  # noqa: N802
        self, stream: Stream[pb.HealthCheckRequest, pb.HealthCheckResponse]
    ) -> None:
        await _check_request(stream)
        sent: ServingStatus | None = None
        while True:
            status = self._status()
            if status is not sent:
                await stream.send_message(pb.HealthCheckResponse(status=status))
                sent = status
            # The expiry of an SVID is no event, so readiness is polled.
            await self._clock.sleep(_LOOK_EVERY)

    def _status(self) -> ServingStatus:
        return ServingStatus.SERVING if self._readiness().ready else ServingStatus.NOT_SERVING


async def _check_request(stream: Stream[pb.HealthCheckRequest, pb.HealthCheckResponse]) -> None:
    """Raises GRPCError for a call about a single service."""
    request = await stream.recv_message()
    if request is None:
        raise GRPCError(Status.INVALID_ARGUMENT, "wanted a request message, got none")
    if request.service:
        raise GRPCError(Status.INVALID_ARGUMENT, "service: wanted none, the health of single services is not reported")
