# Generated from health.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from __future__ import annotations

import abc

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

import meshtls.proto.health_pb as health_pb


class HealthBase(abc.ABC):
    @abc.abstractmethod
    async def Check(self, stream: Stream[health_pb.HealthCheckRequest, health_pb.HealthCheckResponse]) -> None: ...

    @abc.abstractmethod
    async def Watch(self, stream: Stream[health_pb.HealthCheckRequest, health_pb.HealthCheckResponse]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/grpc.health.v1.Health/Check": Handler(self.Check, Cardinality.UNARY_UNARY, health_pb.HealthCheckRequest, health_pb.HealthCheckResponse),
            "/grpc.health.v1.Health/Watch": Handler(self.Watch, Cardinality.UNARY_STREAM, health_pb.HealthCheckRequest, health_pb.HealthCheckResponse),
        }


class HealthStub:
    def __init__(self, channel: Channel) -> None:
        self.Check = UnaryUnaryMethod(channel, "/grpc.health.v1.Health/Check", health_pb.HealthCheckRequest, health_pb.HealthCheckResponse)
        self.Watch = UnaryStreamMethod(channel, "/grpc.health.v1.Health/Watch", health_pb.HealthCheckRequest, health_pb.HealthCheckResponse)
