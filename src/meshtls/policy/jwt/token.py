"""A token's form, its claims and its signature (RFC 7515, RFC 7519), from the cheapest check to the dearest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from joserfc.errors import JoseError

from meshtls.json_text import read_json
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.key_set import ALGORITHMS, KeySet
from meshtls.svid.jwt_format import MAX_TOKEN_BYTES, base64url_bytes, moment_in, shortened

__all__ = [
    "LEEWAY",
    "MAX_SIGNATURES",
    "TIMES",
    "Token",
    "TokenError",
    "UnknownKeyError",
    "check_claims",
    "check_signature",
]

#: How far the issuer's clock may differ from ours.
LEEWAY = timedelta(seconds=60)
#: Signatures that one token may make us check, where several keys of the set may have made it.
MAX_SIGNATURES = 8
#: These change how the rest is to be read (RFC 7515, section 4.1.11; RFC 7797).
_REFUSED_HEADERS = ("crit", "b64")
#: The claims that are times.
TIMES = ("exp", "nbf", "iat")


class TokenError(Exception):
    """The token is refused, for the reason in the text. ``status`` is 401, or 403 for one that is meant for others."""

    def __init__(self, reason: str, status: int = 401) -> None:
        super().__init__(reason)
        self.status = status


class UnknownKeyError(TokenError):
    """The key set has no key of the token's ``kid``: a newer one may have it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was read and not verified."""

    text: str = field(repr=False)
    algorithm: str
    key_id: str | None
    claims: Mapping[str, Any]
    signature: bytes = field(repr=False)

    @classmethod
    def read(cls, text: str) -> Token:
        """Raises TokenError for what is no compact JWS with an object of claims, or whose algorithm is not allowed."""
        if len(text) > MAX_TOKEN_BYTES:
            raise TokenError(f"wanted a JWT of at most {MAX_TOKEN_BYTES} bytes, got {len(text)}")
        segments = text.split(".", 3)
        if len(segments) != 3:
            raise TokenError("wanted a JWT, three parts with dots between them")
        try:
            header = read_json(base64url_bytes(segments[0]))
            signature = base64url_bytes(segments[2])
        except ValueError as error:
            raise TokenError(f"wanted a JWT, got something else: {error}") from error
        wrong = _header_violation(header)
        if wrong:
            raise TokenError(f"JWT: {wrong}")
        try:
            claims = read_json(base64url_bytes(segments[1]))
        except ValueError as error:
            raise TokenError(f"JWT: wanted its claims as a JSON object: {error}") from error
        if not isinstance(claims, dict):
            raise TokenError(f"JWT: wanted its claims as a JSON object, got {shortened(claims)}")
        return cls(text, header["alg"], header.get("kid"), claims, signature)

    @property
    def signed(self) -> bytes:
        """What the signature is of (RFC 7515, section 5.2)."""
        return self.text.rpartition(".")[0].encode()

    @property
    def payload(self) -> str:
        """The claims as they were sent, in base64url."""
        return self.text.split(".", 2)[1]

    @property
    def audiences(self) -> tuple[str, ...]:
        """Raises TokenError where the claim is not made of texts (RFC 7519, section 4.1.3)."""
        given = self.claims.get("aud", [])
        values = given if isinstance(given, list) else [given]
        if not all(isinstance(one, str) for one in values):
            raise TokenError(f"JWT: wanted texts in 'aud', got {_shown(given)}")
        return tuple(values)

    def expiry(self) -> datetime | None:
        """The end of the token, without the leeway; None for one without end. Raises TokenError."""
        return _moment(self.claims, "exp")


def check_claims(token: Token, rule: JwtRule, now: datetime) -> None:
    """Whether the token is valid now and meant for us; its issuer is the caller's affair. Raises TokenError.

    As Envoy has it, a registered claim that is null or of another type is refused, an audience is compared without its
    scheme and without one slash at its end, and a token without ``exp`` does not expire.
    """
    expiry, start, issued = (_moment(token.claims, name) for name in TIMES)
    if expiry is not None and now - expiry >= LEEWAY:
        raise TokenError(f"JWT: it expired at {_clock(expiry)}; our clock says {_clock(now)}")
    for moment, what in ((start, "valid before"), (issued, "issued before")):
        if moment is not None and moment - now > LEEWAY:
            raise TokenError(f"JWT: it is not {what} {_clock(moment)}; our clock says {_clock(now)}")
    for name in ("sub", "jti"):
        value = token.claims.get(name, "")
        if not isinstance(value, str):
            raise TokenError(f"JWT: wanted a text in {name!r}, got {_shown(value)}")
    audiences = token.audiences
    if rule.audiences and not {_bare(one) for one in audiences} & {_bare(one) for one in rule.audiences}:
        wanted = " or ".join(map(shortened, rule.audiences))
        if not audiences:
            raise TokenError(f"JWT: wanted the audience {wanted}, got a token without one", 403)
        raise TokenError(f"JWT: it is meant for {shortened(list(audiences))}, not for {wanted}", 403)


def check_signature(token: Token, keys: KeySet) -> None:
    """Raises TokenError, UnknownKeyError if a newer set may have the key."""
    named = keys.named(token.key_id)
    if not named:
        raise UnknownKeyError(f"JWT: its issuer's key set has no key {shortened(token.key_id)}")
    fitting = [one for one in named if token.algorithm in one.algorithms]
    if not fitting:
        raise TokenError(f"JWT: algorithm {token.algorithm!r} fits no key of its issuer's key set that it may name")
    try:
        if any(one.made(token.signature, token.signed, token.algorithm) for one in fitting[:MAX_SIGNATURES]):
            return
    except (JoseError, ValueError) as error:
        raise TokenError(f"JWT: its signature can't be verified: {error}") from error
    if token.key_id is None or all(one.key_id is None for one in named):
        raise UnknownKeyError("JWT: its signature was not made by a key of its issuer's key set")
    raise TokenError(f"JWT: its signature was not made by key {shortened(token.key_id)} of its issuer's key set")


def _header_violation(header: object) -> str | None:
    if not isinstance(header, dict):
        return f"wanted its header as a JSON object, got {shortened(header)}"
    if header.get("alg") not in ALGORITHMS:
        return f"wanted the algorithm to be one of {', '.join(ALGORITHMS)}, got {shortened(header.get('alg'))}"
    if not isinstance(header.get("kid", ""), str):
        return f"wanted the header 'kid' to be a string, got {_shown(header['kid'])}"
    for name in _REFUSED_HEADERS:
        if name in header:
            return f"wanted no header {name!r}, whose extensions are not understood"
    return None


def _moment(claims: Mapping[str, Any], name: str) -> datetime | None:
    try:
        moment = moment_in(claims, name)
    except ValueError as error:
        raise TokenError(f"JWT: {error}") from error
    if moment is not None and claims[name] < 0:
        raise TokenError(f"JWT: wanted seconds since 1970 in {name!r}, got {shortened(claims[name])}")
    return moment


def _shown(value: object) -> str:
    return "null" if value is None else shortened(value)


def _bare(audience: str) -> str:
    for scheme in ("https://", "http://"):
        audience = audience.removeprefix(scheme)
    return audience.removesuffix("/")


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
