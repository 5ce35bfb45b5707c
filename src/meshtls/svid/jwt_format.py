"""The form of a JWT-SVID: its three parts, the header's members and the claims (JWT-SVID, sections 2 and 3).

Nothing here proves anything: the signature, the times and the audience are judged in ``jwt.py``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError

from meshtls.errors import InvalidSpiffeIdError, InvalidSvidError
from meshtls.spiffeid import SpiffeId

__all__ = ["ALGORITHMS", "REGISTRY", "JwtSvid", "read_claims", "read_parts"]

ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
REGISTRY = jws.JWSRegistry(algorithms=ALGORITHMS)
_HEADER_MEMBERS = ("alg", "kid", "typ")
_TYPES = ("JWT", "JOSE")


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
    """Split and decode a compact JWS and check its header. Raises InvalidSvidError."""
    try:
        parts = jws.extract_compact(token.encode(), registry=REGISTRY)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise InvalidSvidError(f"JWT-SVID: wanted a JWS in compact form, got something else: {error}") from error
    wrong = _header_violation(parts.protected)
    if wrong:
        raise InvalidSvidError(f"JWT-SVID: {wrong}")
    return parts


def read_claims(token: str, payload: bytes) -> JwtSvid:
    """The claims of a token's payload. Raises InvalidSvidError for what is missing or of the wrong kind."""
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError) as error:
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
        return f"wanted the algorithm to be one of {', '.join(ALGORITHMS)}, got {_short(header.get('alg'))}"
    others = sorted(set(header) - set(_HEADER_MEMBERS))
    if others:
        return f"wanted no header but {', '.join(_HEADER_MEMBERS)}, got {_short(', '.join(others))}"
    if header.get("typ", "JWT") not in _TYPES:
        return f"wanted the header 'typ' to be {' or '.join(_TYPES)} or not there, got {_short(header['typ'])}"
    if not isinstance(header.get("kid", "-"), str):
        return f"wanted the header 'kid' to be a string, got {_short(header['kid'])}"
    return None


def _subject(claims: dict[str, Any]) -> SpiffeId:
    subject = claims.get("sub")
    if not isinstance(subject, str):
        raise InvalidSvidError(f"JWT-SVID: wanted a SPIFFE ID in 'sub', got {_short(subject)}")
    try:
        return SpiffeId.parse(subject)
    except InvalidSpiffeIdError as error:
        raise InvalidSvidError(f"JWT-SVID: wanted a SPIFFE ID in 'sub': {error}") from error


def _audience(spiffe_id: SpiffeId, claims: dict[str, Any]) -> tuple[str, ...]:
    audience = claims.get("aud")
    values = audience if isinstance(audience, list) else [audience]
    if not values or not all(isinstance(one, str) and one for one in values):
        raise InvalidSvidError(f"JWT-SVID of {spiffe_id}: wanted one or more names in 'aud', got {_short(audience)}")
    return tuple(values)


def _moment(spiffe_id: SpiffeId, claims: dict[str, Any], name: str) -> datetime | None:
    seconds = claims.get(name)
    if seconds is None:
        return None
    try:
        # bool is an int to Python and a number to nobody else
        return datetime.fromtimestamp(math.nan if isinstance(seconds, bool) else seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise InvalidSvidError(
            f"JWT-SVID of {spiffe_id}: wanted seconds since 1970 in {name!r}, got {_short(seconds)}"
        ) from error


def _short(value: object) -> str:
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
