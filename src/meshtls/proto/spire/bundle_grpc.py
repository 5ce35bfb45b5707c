# Generated from spire/bundle.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from __future__ import annotations

import abc

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

import meshtls.proto.spire.bundle_pb as spire_bundle_pb
import meshtls.proto.spire.types_pb as spire_types_pb


class BundleBase(abc.ABC):
    @abc.abstractmethod
    async def GetBundle(self, stream: Stream[spire_bundle_pb.GetBundleRequest, spire_types_pb.Bundle]) -> None: ...

    @abc.abstractmethod
    async def PublishJWTAuthority(self, stream: Stream[spire_bundle_pb.PublishJWTAuthorityRequest, spire_bundle_pb.PublishJWTAuthorityResponse]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.bundle.v1.Bundle/GetBundle": Handler(self.GetBundle, Cardinality.UNARY_UNARY, spire_bundle_pb.GetBundleRequest, spire_types_pb.Bundle),
            "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority": Handler(self.PublishJWTAuthority, Cardinality.UNARY_UNARY, spire_bundle_pb.PublishJWTAuthorityRequest, spire_bundle_pb.PublishJWTAuthorityResponse),
        }


class BundleStub:
    def __init__(self, channel: Channel) -> None:
        self.GetBundle = UnaryUnaryMethod(channel, "/spire.api.server.bundle.v1.Bundle/GetBundle", spire_bundle_pb.GetBundleRequest, spire_types_pb.Bundle)
        self.PublishJWTAuthority = UnaryUnaryMethod(channel, "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", spire_bundle_pb.PublishJWTAuthorityRequest, spire_bundle_pb.PublishJWTAuthorityResponse)
