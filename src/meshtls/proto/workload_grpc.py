# Generated from workload.proto by `python -m meshtls.proto.build`: do not edit.
# fmt: off
# ruff: noqa
from __future__ import annotations

import abc

from grpclib.client import Channel, StreamStreamMethod, StreamUnaryMethod
from grpclib.client import UnaryStreamMethod, UnaryUnaryMethod
from grpclib.const import Cardinality, Handler
from grpclib.server import Stream

import meshtls.proto.workload_pb as workload_pb


class SpiffeWorkloadAPIBase(abc.ABC):
    @abc.abstractmethod
    async def FetchX509SVID(self, stream: Stream[workload_pb.X509SVIDRequest, workload_pb.X509SVIDResponse]) -> None: ...

    @abc.abstractmethod
    async def FetchX509Bundles(self, stream: Stream[workload_pb.X509BundlesRequest, workload_pb.X509BundlesResponse]) -> None: ...

    @abc.abstractmethod
    async def FetchJWTSVID(self, stream: Stream[workload_pb.JWTSVIDRequest, workload_pb.JWTSVIDResponse]) -> None: ...

    @abc.abstractmethod
    async def FetchJWTBundles(self, stream: Stream[workload_pb.JWTBundlesRequest, workload_pb.JWTBundlesResponse]) -> None: ...

    @abc.abstractmethod
    async def ValidateJWTSVID(self, stream: Stream[workload_pb.ValidateJWTSVIDRequest, workload_pb.ValidateJWTSVIDResponse]) -> None: ...

    def __mapping__(self) -> dict[str, Handler]:
        return {
            "/SpiffeWorkloadAPI/FetchX509SVID": Handler(self.FetchX509SVID, Cardinality.UNARY_STREAM, workload_pb.X509SVIDRequest, workload_pb.X509SVIDResponse),
            "/SpiffeWorkloadAPI/FetchX509Bundles": Handler(self.FetchX509Bundles, Cardinality.UNARY_STREAM, workload_pb.X509BundlesRequest, workload_pb.X509BundlesResponse),
            "/SpiffeWorkloadAPI/FetchJWTSVID": Handler(self.FetchJWTSVID, Cardinality.UNARY_UNARY, workload_pb.JWTSVIDRequest, workload_pb.JWTSVIDResponse),
            "/SpiffeWorkloadAPI/FetchJWTBundles": Handler(self.FetchJWTBundles, Cardinality.UNARY_STREAM, workload_pb.JWTBundlesRequest, workload_pb.JWTBundlesResponse),
            "/SpiffeWorkloadAPI/ValidateJWTSVID": Handler(self.ValidateJWTSVID, Cardinality.UNARY_UNARY, workload_pb.ValidateJWTSVIDRequest, workload_pb.ValidateJWTSVIDResponse),
        }


class SpiffeWorkloadAPIStub:
    def __init__(self, channel: Channel) -> None:
        self.FetchX509SVID = UnaryStreamMethod(channel, "/SpiffeWorkloadAPI/FetchX509SVID", workload_pb.X509SVIDRequest, workload_pb.X509SVIDResponse)
        self.FetchX509Bundles = UnaryStreamMethod(channel, "/SpiffeWorkloadAPI/FetchX509Bundles", workload_pb.X509BundlesRequest, workload_pb.X509BundlesResponse)
        self.FetchJWTSVID = UnaryUnaryMethod(channel, "/SpiffeWorkloadAPI/FetchJWTSVID", workload_pb.JWTSVIDRequest, workload_pb.JWTSVIDResponse)
        self.FetchJWTBundles = UnaryStreamMethod(channel, "/SpiffeWorkloadAPI/FetchJWTBundles", workload_pb.JWTBundlesRequest, workload_pb.JWTBundlesResponse)
        self.ValidateJWTSVID = UnaryUnaryMethod(channel, "/SpiffeWorkloadAPI/ValidateJWTSVID", workload_pb.ValidateJWTSVIDRequest, workload_pb.ValidateJWTSVIDResponse)
