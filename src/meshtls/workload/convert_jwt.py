"""JWT messages of the Workload API <-> our own objects (SPIFFE Workload API, section 6). Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import InvalidSvidError, LocalIdentityError
from meshtls.proto import workload_pb as pb
from meshtls.svid.jwt import JwtSvid, parse_unverified
from meshtls.workload.convert import bundle_set, first_of_each_hint

__all__ = ["jwt_bundles", "jwt_bundles_message", "jwt_svids", "jwt_svids_message", "validated", "validated_message"]


def jwt_bundles(message: pb.JWTBundlesResponse) -> BundleSet:
    """Bundles with JWT keys only, whatever else the documents hold. An unreadable one trusts no peer."""
    return bundle_set(message.bundles.items(), TrustBundle.from_jwt_jwks)


def jwt_bundles_message(bundles: BundleSet) -> pb.JWTBundlesResponse:
    """JWKS documents with JWT keys only, as the standard asks."""
    documents = {str(b.trust_domain.id): replace(b, x509_authorities=()).to_jwks().encode() for b in bundles}
    return pb.JWTBundlesResponse(bundles=documents)


def jwt_svids(message: pb.JWTSVIDResponse, audience: Collection[str]) -> tuple[JwtSvid, ...]:
    """The tokens, each for all of ``audience``, the default first. Raises LocalIdentityError."""
    svids = first_of_each_hint(_svid(one, audience) for one in message.svids)
    if not svids:
        raise LocalIdentityError("the Workload API sent no JWT-SVID: no identity was issued to this process")
    return svids


def jwt_svids_message(svids: Collection[JwtSvid]) -> pb.JWTSVIDResponse:
    return pb.JWTSVIDResponse(
        svids=[pb.JWTSVID(spiffe_id=str(svid.spiffe_id), svid=svid.token, hint=svid.hint) for svid in svids]
    )


def validated(message: pb.ValidateJWTSVIDResponse, token: str) -> JwtSvid:
    """The token that the Workload API validated. Raises LocalIdentityError if the response names another ID."""
    try:
        svid = parse_unverified(token)
    except InvalidSvidError as error:
        raise LocalIdentityError(f"the Workload API accepted an invalid token: {error}") from error
    if str(svid.spiffe_id) != message.spiffe_id:
        raise LocalIdentityError(
            f"the Workload API accepted a token of {svid.spiffe_id} as one of {message.spiffe_id!r}; it is not used"
        )
    return svid


def validated_message(svid: JwtSvid) -> pb.ValidateJWTSVIDResponse:
    """Raises InvalidSvidError for a claim that the message can't carry: its numbers are doubles."""
    message = pb.ValidateJWTSVIDResponse(spiffe_id=str(svid.spiffe_id))
    try:
        message.claims.update(svid.claims)
    except (OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidSvidError(f"JWT-SVID of {svid.spiffe_id}: wanted claims that JSON can carry: {error}") from error
    return message


def _svid(message: pb.JWTSVID, audience: Collection[str]) -> JwtSvid:
    where = f"JWT-SVID {message.spiffe_id!r} of the Workload API"
    try:
        svid = parse_unverified(message.svid, message.hint)
    except InvalidSvidError as error:
        raise LocalIdentityError(f"{where}: {error}") from error
    if str(svid.spiffe_id) != message.spiffe_id:
        raise LocalIdentityError(f"{where}: its token says {svid.spiffe_id}")
    missing = [one for one in audience if one not in svid.audience]
    if missing:
        raise LocalIdentityError(
            f"{where}: asked for audience {', '.join(map(repr, missing))}, got {', '.join(map(repr, svid.audience))}"
        )
    return svid
