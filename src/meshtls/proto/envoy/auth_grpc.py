# Generated from envoy/auth.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from __future__ import annotations

import abc

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

import meshtls.proto.envoy.auth_pb as envoy_auth_pb


class AuthorizationBase(abc.ABC):
    @abc.abstractmethod
    async def Check(self, stream: Stream[envoy_auth_pb.CheckRequest, envoy_auth_pb.CheckResponse]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/envoy.service.auth.v3.Authorization/Check": Handler(self.Check, Cardinality.UNARY_UNARY, envoy_auth_pb.CheckRequest, envoy_auth_pb.CheckResponse),
        }


class AuthorizationStub:
    def __init__(self, channel: Channel) -> None:
        self.Check = UnaryUnaryMethod(channel, "/envoy.service.auth.v3.Authorization/Check", envoy_auth_pb.CheckRequest, envoy_auth_pb.CheckResponse)
