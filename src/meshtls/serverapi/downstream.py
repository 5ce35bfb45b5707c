"""Calls of a server below another one, which is meshtls or SPIRE: they are SPIRE's server API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from grpclib.client import Channel

from meshtls.bundle import JwtAuthority
from meshtls.errors import LocalIdentityError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.proto.spire import bundle_grpc, bundle_pb, svid_grpc, svid_pb, types_pb
from meshtls.serverapi.channels import CALL_SECONDS, our_errors
from meshtls.serverapi.upstream import UpstreamBundle, UpstreamCa, UpstreamKey

__all__ = ["ISSUER_METADATA", "SERVER_METADATA", "DownstreamClient"]

#: The initial metadata of GetBundle in which our server names the certificate that signs downstream CAs, by its subject
#: key identifier. SPIRE sends no such thing, and ignores it.
ISSUER_METADATA = "meshtls-issuer"
#: The metadata of NewDownstreamX509CA in which a server below gives its ID, so that the one above counts the newest CA
#: of each. SPIRE's servers send none, and ignore it.
SERVER_METADATA = "meshtls-server-id"
_NEVER = datetime(9999, 12, 31, tzinfo=UTC)


class DownstreamClient:
    """Raises AccessError, RequestError or ConfigError as the server refuses, LocalIdentityError if it can't be reached
    or answers what can't be read.
    """

    def __init__(self, channel: Channel) -> None:
        self._svid = svid_grpc.SVIDStub(channel)
        self._bundle = bundle_grpc.BundleStub(channel)

    async def new_ca(self, csr: bytes, preferred_ttl: int, server_id: str) -> UpstreamCa:
        """Have a CA signed. ``csr`` is DER, ``preferred_ttl`` in seconds, ``server_id`` this server's ID, a UUID."""
        request = svid_pb.NewDownstreamX509CARequest(csr=csr, preferred_ttl=preferred_ttl)
        with our_errors():
            answer = await self._svid.NewDownstreamX509CA(
                request, timeout=CALL_SECONDS, metadata={SERVER_METADATA: server_id}
            )
        return UpstreamCa(_certificates(answer.ca_cert_chain), _certificates(answer.x509_authorities))

    async def bundle(self) -> UpstreamBundle:
        with our_errors():
            async with self._bundle.GetBundle.open(timeout=CALL_SECONDS) as stream:
                await stream.send_message(bundle_pb.GetBundleRequest(), end=True)
                answer = await stream.recv_message()
                issuer = stream.initial_metadata.get(ISSUER_METADATA, "") if stream.initial_metadata else ""
            if answer is None:
                raise LocalIdentityError("upstream authority: wanted a bundle, got the end of the call")
        roots = _certificates([one.asn1 for one in answer.x509_authorities])
        tainted = frozenset(one for one, sent in zip(roots, answer.x509_authorities, strict=True) if sent.tainted)
        return UpstreamBundle(roots, tainted, _keys(answer.jwt_authorities), str(issuer), complete=True)

    async def publish(self, kid: str, key: JwtAuthority, ends_at: datetime) -> Mapping[str, UpstreamKey]:
        """Publish a key of ours; returns those of the trust domain."""
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        sent = types_pb.JWTKey(public_key=der, key_id=kid, expires_at=int(ends_at.timestamp()))
        with our_errors():
            request = bundle_pb.PublishJWTAuthorityRequest(jwt_authority=sent)
            answer = await self._bundle.PublishJWTAuthority(request, timeout=CALL_SECONDS)
        return _keys(answer.jwt_authorities)


def _certificates(ders: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(map(x509.load_der_x509_certificate, ders))
    except PARSE_ERRORS as error:
        raise LocalIdentityError(f"upstream authority: wanted certificates in DER: {error}") from error


def _keys(sent: Sequence[types_pb.JWTKey]) -> dict[str, UpstreamKey]:
    """The keys that this side can use: one of another kind concerns its own tokens only."""
    found: dict[str, UpstreamKey] = {}
    for one in sent:
        try:
            key = load_der_public_key(one.public_key)
            ends = datetime.fromtimestamp(one.expires_at, UTC) if one.expires_at else _NEVER
        except (*PARSE_ERRORS, OverflowError, OSError):
            continue
        if isinstance(key, JwtAuthority) and one.key_id:
            found[one.key_id] = UpstreamKey(key, ends, one.tainted)
    return found
