# Generated from envoy/secret.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from __future__ import annotations

import abc

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

import meshtls.proto.envoy.discovery_pb as envoy_discovery_pb


class SecretDiscoveryServiceBase(abc.ABC):
    @abc.abstractmethod
    async def DeltaSecrets(self, stream: Stream[envoy_discovery_pb.DeltaDiscoveryRequest, envoy_discovery_pb.DeltaDiscoveryResponse]) -> None: ...

    @abc.abstractmethod
    async def StreamSecrets(self, stream: Stream[envoy_discovery_pb.DiscoveryRequest, envoy_discovery_pb.DiscoveryResponse]) -> None: ...

    @abc.abstractmethod
    async def FetchSecrets(self, stream: Stream[envoy_discovery_pb.DiscoveryRequest, envoy_discovery_pb.DiscoveryResponse]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets": Handler(self.DeltaSecrets, Cardinality.STREAM_STREAM, envoy_discovery_pb.DeltaDiscoveryRequest, envoy_discovery_pb.DeltaDiscoveryResponse),
            "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets": Handler(self.StreamSecrets, Cardinality.STREAM_STREAM, envoy_discovery_pb.DiscoveryRequest, envoy_discovery_pb.DiscoveryResponse),
            "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets": Handler(self.FetchSecrets, Cardinality.UNARY_UNARY, envoy_discovery_pb.DiscoveryRequest, envoy_discovery_pb.DiscoveryResponse),
        }


class SecretDiscoveryServiceStub:
    def __init__(self, channel: Channel) -> None:
        self.DeltaSecrets = StreamStreamMethod(channel, "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets", envoy_discovery_pb.DeltaDiscoveryRequest, envoy_discovery_pb.DeltaDiscoveryResponse)
        self.StreamSecrets = StreamStreamMethod(channel, "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets", envoy_discovery_pb.DiscoveryRequest, envoy_discovery_pb.DiscoveryResponse)
        self.FetchSecrets = UnaryUnaryMethod(channel, "/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets", envoy_discovery_pb.DiscoveryRequest, envoy_discovery_pb.DiscoveryResponse)
