"""The methods of SPIRE's server API that a server below this one calls, meshtls or SPIRE, over gRPC."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from grpclib.server import Stream

from meshtls.proto.spire import bundle_grpc, bundle_pb, svid_grpc, svid_pb, types_pb
from meshtls.rpc.calls import received
from meshtls.server.access import Caller
from meshtls.server.core import Core
from meshtls.server.operations import downstream
from meshtls.server.operations.downstream import DownstreamBundle
from meshtls.serverapi.downstream import ISSUER_METADATA, SERVER_METADATA
from meshtls.svid.x509 import fingerprint_of

__all__ = ["DownstreamBundleService", "DownstreamCaService"]


class DownstreamCaService(svid_grpc.SVIDBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def NewDownstreamX509CA(
        self, stream: Stream[svid_pb.NewDownstreamX509CARequest, svid_pb.NewDownstreamX509CAResponse]
    ) -> None:
        request = await received(stream)
        metadata = stream.metadata
        below = str(metadata.get(SERVER_METADATA, "")) if metadata else ""
        made = await downstream.new_downstream_ca(self._core, self._caller, request.csr, request.preferred_ttl, below)
        chain = [one.public_bytes(Encoding.DER) for one in made.chain]
        roots = [one.public_bytes(Encoding.DER) for one in made.authorities]
        await stream.send_message(svid_pb.NewDownstreamX509CAResponse(ca_cert_chain=chain, x509_authorities=roots))


class DownstreamBundleService(bundle_grpc.BundleBase):
    def __init__(self, core: Core, caller: Caller) -> None:
        self._core, self._caller = core, caller

    async def GetBundle(self, stream: Stream[bundle_pb.GetBundleRequest, types_pb.Bundle]) -> None:
        await received(stream)
        found = await downstream.downstream_bundle(self._core, self._caller)
        await stream.send_initial_metadata(metadata={ISSUER_METADATA: found.issuer})
        bundle = found.bundle
        roots = [
            types_pb.X509Certificate(asn1=one.public_bytes(Encoding.DER), tainted=fingerprint_of(one) in found.tainted)
            for one in bundle.x509_authorities
        ]
        await stream.send_message(
            types_pb.Bundle(
                trust_domain=str(bundle.trust_domain),
                x509_authorities=roots,
                jwt_authorities=_keys(found),
                refresh_hint=bundle.refresh_hint or 0,
                sequence_number=bundle.sequence or 0,
            )
        )

    async def PublishJWTAuthority(
        self, stream: Stream[bundle_pb.PublishJWTAuthorityRequest, bundle_pb.PublishJWTAuthorityResponse]
    ) -> None:
        key = (await received(stream)).jwt_authority
        found = await downstream.publish_jwt_authority(
            self._core, self._caller, key.key_id, key.public_key, key.expires_at
        )
        await stream.send_message(bundle_pb.PublishJWTAuthorityResponse(jwt_authorities=_keys(found)))


def _keys(found: DownstreamBundle) -> Iterator[types_pb.JWTKey]:
    for kid, key in found.bundle.jwt_authorities.items():
        ends = found.ends.get(kid)
        yield types_pb.JWTKey(
            public_key=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            key_id=kid,
            expires_at=int(ends.timestamp()) if ends else 0,
            tainted=kid in found.tainted,
        )
