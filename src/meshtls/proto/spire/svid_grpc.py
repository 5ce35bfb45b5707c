# Generated from spire/svid.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from __future__ import annotations

import abc

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

import meshtls.proto.spire.svid_pb as spire_svid_pb


class SVIDBase(abc.ABC):
    @abc.abstractmethod
    async def NewDownstreamX509CA(self, stream: Stream[spire_svid_pb.NewDownstreamX509CARequest, spire_svid_pb.NewDownstreamX509CAResponse]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA": Handler(self.NewDownstreamX509CA, Cardinality.UNARY_UNARY, spire_svid_pb.NewDownstreamX509CARequest, spire_svid_pb.NewDownstreamX509CAResponse),
        }


class SVIDStub:
    def __init__(self, channel: Channel) -> None:
        self.NewDownstreamX509CA = UnaryUnaryMethod(channel, "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", spire_svid_pb.NewDownstreamX509CARequest, spire_svid_pb.NewDownstreamX509CAResponse)
