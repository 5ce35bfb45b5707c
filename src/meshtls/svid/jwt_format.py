"""The form of a JWT-SVID: its three parts, the header's members and the claims (JWT-SVID, sections 2 and 3).

Nothing is verified here: ``jwt.py`` checks the signature, the times and the audience.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from meshtls.errors import InvalidSpiffeIdError, InvalidSvidError
from meshtls.json_text import read_json
from meshtls.spiffeid import SpiffeId

__all__ = [
    "ALGORITHMS",
    "MAX_TOKEN_BYTES",
    "REGISTRY",
    "JwtSvid",
    "base64url_bytes",
    "moment_in",
    "read_claims",
    "read_parts",
    "shortened",
]

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
REGISTRY = jws.JWSRegistry(algorithms=ALGORITHMS)
_HEADER_MEMBERS = ("alg", "kid", "typ")
_TYPES = ("JWT", "JOSE")
#: A token that is longer is refused unread. HTTP servers take a quarter of this, and tokens travel in headers.
MAX_TOKEN_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """A JWT-SVID's claims, its times aware and in UTC; ``token`` is the secret itself and never shows in a repr."""

    spiffe_id: SpiffeId
    audience: tuple[str, ...]
    expiry: datetime
    token: str = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False, compare=False)
    issued_at: datetime | None = None
    not_before: datetime | None = None
    hint: str = ""


def read_parts(token: str) -> jws.CompactSignature:
    """Split and decode a compact JWS and check its header (RFC 7515, sections 3.1 and 5.2). Raises InvalidSvidError.

    A token of any length costs at most what one of MAX_TOKEN_BYTES does.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidSvidError(f"JWT-SVID: wanted at most {MAX_TOKEN_BYTES} bytes, got {len(token)}")
    segments = token.split(".", 3)
    if len(segments) != 3:
        raise _no_compact_jws("wanted three parts with dots between them")
    try:
        decoded = list(map(base64url_bytes, segments))
        header = read_json(decoded[0])
    except ValueError as error:
        raise _no_compact_jws(error) from error
    wrong = _header_violation(header)
    if wrong:
        raise InvalidSvidError(f"JWT-SVID: {wrong}")
    try:
        return jws.extract_compact(token.encode(), registry=REGISTRY)
    except (JoseError, ValueError) as error:
        raise _no_compact_jws(error) from error


def _no_compact_jws(why: object) -> InvalidSvidError:
    return InvalidSvidError(f"JWT-SVID: wanted a JWS in compact form, got something else: {why}")


def base64url_bytes(segment: str) -> bytes:
    """The bytes of a part of a JWS (RFC 7515, section 2). Raises ValueError, also for a non-canonical encoding (a text
    that differs from that of its bytes).
    """
    content = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(content).rstrip(b"=") != segment.encode():
        raise binascii.Error("a part has characters, padding or bits that base64url has not")
    return content


def read_claims(token: str, payload: bytes) -> JwtSvid:
    """The claims of a token's payload (RFC 7519, section 7.2). Raises InvalidSvidError for what is missing or of the
    wrong kind.
    """
    try:
        claims = read_json(payload)
    except ValueError as error:
        raise InvalidSvidError(f"JWT-SVID: wanted its claims as a JSON object: {error}") from error
    if not isinstance(claims, dict):
        raise InvalidSvidError(f"JWT-SVID: wanted its claims as a JSON object, got {type(claims).__name__}")
    spiffe_id = _subject(claims)
    expiry = _moment(spiffe_id, claims, "exp")
    if expiry is None:
        raise InvalidSvidError(f"JWT-SVID of {spiffe_id}: wanted the time of its end in 'exp', got nothing")
    issued, not_before = _moment(spiffe_id, claims, "iat"), _moment(spiffe_id, claims, "nbf")
    audience = _audience(spiffe_id, claims)
    return JwtSvid(spiffe_id, audience, expiry, token, MappingProxyType(claims), issued, not_before)


def _header_violation(header: object) -> str | None:
    if not isinstance(header, dict):
        return f"wanted its header as a JSON object, got {type(header).__name__}"
    if header.get("alg") not in ALGORITHMS:
        return f"wanted the algorithm to be one of {', '.join(ALGORITHMS)}, got {shortened(header.get('alg'))}"
    others = sorted(set(header) - set(_HEADER_MEMBERS))
    if others:
        return f"wanted no header but {', '.join(_HEADER_MEMBERS)}, got {shortened(', '.join(others))}"
    if header.get("typ", "JWT") not in _TYPES:
        return f"wanted the header 'typ' to be {' or '.join(_TYPES)} or not there, got {shortened(header['typ'])}"
    if not isinstance(header.get("kid", "-"), str):
        return f"wanted the header 'kid' to be a string, got {shortened(header['kid'])}"
    return None


def _subject(claims: dict[str, Any]) -> SpiffeId:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise InvalidSvidError(f"JWT-SVID: wanted a SPIFFE ID in 'sub', got {shortened(subject)}")
    try:
        return SpiffeId.parse(subject)
    except InvalidSpiffeIdError as error:
        raise InvalidSvidError(f"JWT-SVID: wanted a SPIFFE ID in 'sub': {error}") from error


def _audience(spiffe_id: SpiffeId, claims: dict[str, Any]) -> tuple[str, ...]:
    audience = claims.get("aud")
    values = audience if isinstance(audience, list) else [audience]
    if not values or not all(isinstance(one, str) and one for one in values):
        raise InvalidSvidError(f"JWT-SVID of {spiffe_id}: wanted one or more names in 'aud', got {shortened(audience)}")
    return tuple(values)


def _moment(spiffe_id: SpiffeId, claims: dict[str, Any], name: str) -> datetime | None:
    try:
        return moment_in(claims, name)
    except ValueError as error:
        raise InvalidSvidError(f"JWT-SVID of {spiffe_id}: {error}") from error


def moment_in(claims: Mapping[str, Any], name: str) -> datetime | None:
    """The time in this claim, aware and in UTC (RFC 7519, section 2: NumericDate); None without it. Raises ValueError
    for what is no time that a date can hold, null included.
    """
    if name not in claims:
        return None
    seconds = claims[name]
    try:
        # in Python bool is an int; in JSON it is no number
        return datetime.fromtimestamp(math.nan if isinstance(seconds, bool) else seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"wanted seconds since 1970 in {name!r}, got {'null' if seconds is None else shortened(seconds)}"
        ) from error


def shortened(value: object) -> str:
    """This value in a message, of bounded length and without control characters."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
