"""JWT-SVIDs: signed, and validated (JWT-SVID, section 4).

A token is trusted by the keys of the bundle of ITS OWN trust domain and no other. The algorithm comes from a fixed list
and must fit the key that the bundle holds: what a token says of itself never widens what is accepted.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from meshtls.bundle import BundleSet, JwtAuthority, TrustBundle
from meshtls.errors import InvalidSvidError, NoBundleError, RequestError, UntrustedPeerError, ValidityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.jwt_format import (
    ALGORITHMS,
    MAX_TOKEN_BYTES,
    REGISTRY,
    JwtSvid,
    read_claims,
    read_parts,
    shortened,
)
from meshtls.svid.x509 import PrivateKey, SignsOnly

__all__ = ["ALGORITHMS", "JwtSvid", "key_id_of_token", "parse_and_validate", "parse_unverified", "sign"]

_SHOWN = 8
# So that the token, with header and signature and in base64, is within what a reader accepts.
_MAX_PAYLOAD_BYTES = MAX_TOKEN_BYTES * 3 // 4 - 4096
#: What keys that only sign are asked for.
_ELSEWHERE = ("RS256", "ES256", "ES384")
_BY_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


def parse_and_validate(token: str, bundles: BundleSet, audience: str, now: datetime) -> JwtSvid:
    """Read a token that a peer presented and check everything (JWT-SVID, section 4). ``audience`` is who we are.

    Raises InvalidSvidError for what breaks the format or is meant for someone else, NoBundleError, UntrustedPeerError
    if no key of its trust domain's bundle made the signature, or ValidityError.
    """
    parts = read_parts(token)
    svid = read_claims(token, parts.payload)
    _check_signature(svid.spiffe_id, parts, _bundle_of(svid.spiffe_id, bundles))
    _check_times(svid, now)
    if audience not in svid.audience:
        meant_for = ", ".join(map(shortened, svid.audience[:_SHOWN])) + (", ..." if len(svid.audience) > _SHOWN else "")
        raise InvalidSvidError(
            f"JWT-SVID of {svid.spiffe_id}: it is meant for {meant_for}, not for {shortened(audience)}"
        )
    return svid


def parse_unverified(token: str, hint: str = "") -> JwtSvid:
    """Read a token without verifying it: only for one from our own Workload API. Raises InvalidSvidError."""
    return replace(read_claims(token, read_parts(token).payload), hint=hint)


def key_id_of_token(token: str) -> str | None:
    """The ``kid`` of the header, unverified; None without one. Raises InvalidSvidError."""
    key_id: str | None = read_parts(token).protected.get("kid")
    return key_id


def sign(
    spiffe_id: SpiffeId,
    audience: Collection[str],
    *,
    key: PrivateKey,
    key_id: str,
    now: datetime,
    ttl: timedelta,
    algorithm: str | None = None,
) -> JwtSvid:
    """Sign a JWT-SVID that lives from ``now`` for ``ttl``, in whole seconds. ``algorithm`` is the key's unless told.

    Raises RequestError for an invalid audience, lifetime, key ID or algorithm.
    """
    issued, expires = int(now.timestamp()), int((now + ttl).timestamp())
    algorithm = algorithm or next((one for one in ALGORITHMS if _fits(one, key)), "none")
    wrong = _unsignable(audience, expires - issued, key_id) or _misfit(algorithm, key)
    if isinstance(key, SignsOnly) and algorithm not in _ELSEWHERE:
        wrong = wrong or f"a key in a token signs {', '.join(_ELSEWHERE)}, not {algorithm}"
    if wrong:
        raise RequestError(f"JWT-SVID of {spiffe_id}: {wrong}")
    claims = {"sub": str(spiffe_id), "aud": list(dict.fromkeys(audience)), "exp": expires, "iat": issued}
    header = {"alg": algorithm, "kid": key_id, "typ": "JWT"}
    payload = json.dumps(claims).encode()
    if len(payload) > _MAX_PAYLOAD_BYTES:
        raise RequestError(
            f"JWT-SVID of {spiffe_id}: wanted claims of at most {_MAX_PAYLOAD_BYTES} bytes, got {len(payload)};"
            " ask for fewer or shorter audiences"
        )
    if isinstance(key, SignsOnly):
        return read_claims(_signed_elsewhere(header, payload, key), payload)
    return read_claims(jws.serialize_compact(header, payload, _jwk(key), registry=REGISTRY), payload)


def _signed_elsewhere(header: dict[str, str], payload: bytes, key: PrivateKey) -> str:
    """The compact serialization (RFC 7515, section 7.1) by a key that only signs: joserfc wants to read it."""
    message = b".".join(map(_base64, (json.dumps(header).encode(), payload)))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        digest = hashes.SHA384() if header["alg"] == "ES384" else hashes.SHA256()
        numbers = decode_dss_signature(key.sign(message, ec.ECDSA(digest)))
        signature = b"".join(one.to_bytes(key.key_size // 8) for one in numbers)
    else:
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return b".".join((message, _base64(signature))).decode()


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def _unsignable(audience: Collection[str], seconds: int, key_id: str) -> str | None:
    if isinstance(audience, str) or not audience or not all(audience):
        return f"wanted one or more audiences, none of them empty, got {shortened(audience)}"
    if not all(map(_is_unicode, audience)):
        return f"wanted audiences that UTF-8 can carry, got {shortened(audience)}"
    if seconds <= 0:
        return f"wanted a life of one second or more, got {seconds} s"
    return None if key_id else "wanted a key ID by which the bundle names the key, got an empty one"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bundle_of(spiffe_id: SpiffeId, bundles: BundleSet) -> TrustBundle:
    bundle = bundles.get(spiffe_id.trust_domain)
    if bundle is None:
        known = ", ".join(str(b.trust_domain) for b in bundles) or "none"
        raise NoBundleError(
            f"JWT-SVID of {spiffe_id}: no bundle for trust domain {spiffe_id.trust_domain}; known: {known}"
        )
    if not bundle.jwt_authorities:
        raise NoBundleError(
            f"JWT-SVID of {spiffe_id}: the bundle of trust domain {bundle.trust_domain} has no JWT authority"
            + "".join(f"; {line}" for line in bundle.unusable[:1])
        )
    return bundle


def _check_signature(spiffe_id: SpiffeId, parts: jws.CompactSignature, bundle: TrustBundle) -> None:
    algorithm, key_id = parts.protected["alg"], parts.protected.get("kid")
    candidates = bundle.jwt_authorities
    if key_id is not None:
        if key_id not in candidates:
            raise UntrustedPeerError(
                f"JWT-SVID of {spiffe_id}: the bundle of trust domain {bundle.trust_domain} has no key"
                f" {shortened(key_id)}; known: {', '.join(map(shortened, sorted(candidates)[:_SHOWN]))}"
            )
        wrong = _misfit(algorithm, candidates[key_id])
        if wrong:
            raise UntrustedPeerError(f"JWT-SVID of {spiffe_id}: key {shortened(key_id)}: {wrong}")
        candidates = {key_id: candidates[key_id]}
    fitting = (_jwk(key) for key in candidates.values() if _fits(algorithm, key))
    if not any(jws.validate_compact(parts, key, registry=REGISTRY) for key in fitting):
        raise UntrustedPeerError(
            f"JWT-SVID of {spiffe_id}: its signature was not made by"
            f" {f'key {shortened(key_id)}' if key_id is not None else 'any fitting key'}"
            f" of the bundle of trust domain {bundle.trust_domain}"
        )


def _check_times(svid: JwtSvid, now: datetime) -> None:
    if now >= svid.expiry:
        raise ValidityError(
            f"JWT-SVID of {svid.spiffe_id}: it expired at {_clock(svid.expiry)}; our clock says {_clock(now)}"
        )
    if svid.not_before is not None and now < svid.not_before:
        raise ValidityError(
            f"JWT-SVID of {svid.spiffe_id}: it is not valid before {_clock(svid.not_before)};"
            f" our clock says {_clock(now)}"
        )


def _fits(algorithm: str, key: PrivateKey | JwtAuthority) -> bool:
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return _BY_CURVE.get(key.curve.name) == algorithm
    return algorithm[:2] in ("RS", "PS") and algorithm in ALGORITHMS and key.key_size >= 2048


def _misfit(algorithm: str, key: PrivateKey | JwtAuthority) -> str | None:
    if _fits(algorithm, key):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return f"algorithm {algorithm!r} does not fit an EC key on {key.curve.name}"
    return f"algorithm {algorithm!r} does not fit an RSA key of {key.key_size} bits"


def _jwk(key: PrivateKey | JwtAuthority) -> ECKey | RSAKey:
    if isinstance(key, ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey):
        return ECKey.import_key(key)
    return RSAKey.import_key(key)


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
