"""The headers by which the app is told of a verified token: ``outputPayloadToHeader``, ``outputClaimToHeaders``. Pure.

An app trusts them, so what a client sends under their names is removed, also with ``_`` for ``-``: some gateways
between a server and an app (CGI, WSGI) can't tell the two apart.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.verified import Verified
from meshtls.wire.http import HttpRequest

__all__ = ["output_headers", "reserved_names", "without_reserved"]

# No control character but the tab (RFC 9110, section 5.5), none at the ends that a reader would strip.
_VALUE = re.compile(r"[\x21-\x7e\x80-\xff]([\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?")


def reserved_names(rules: Iterable[JwtRule]) -> frozenset[str]:
    """The names that only we may set, for ``without_reserved``."""
    return frozenset(_folded(name) for rule in rules for name in _names(rule))


def without_reserved(request: HttpRequest, reserved: frozenset[str]) -> HttpRequest:
    """The request without the headers of these names that the client sent."""
    if not reserved:
        return request
    headers = tuple(one for one in request.headers if _folded(one[0]) not in reserved)
    return request if len(headers) == len(request.headers) else msgspec.structs.replace(request, headers=headers)


def output_headers(rule: JwtRule, verified: Verified) -> Iterator[tuple[str, str]]:
    """A claim that is missing, or that no header can carry, gives none. One that is no text, number or boolean is JSON
    in base64url, as Envoy has it.
    """
    if rule.output_payload_to_header:
        yield rule.output_payload_to_header.lower(), verified.payload
    for name, claim in rule.output_claim_to_headers:
        value = _text(_claim(verified.claims, claim))
        if value is not None and _VALUE.fullmatch(value):
            yield name.lower(), value


def _names(rule: JwtRule) -> Iterator[str]:
    if rule.output_payload_to_header:
        yield rule.output_payload_to_header
    yield from (name for name, _ in rule.output_claim_to_headers)


def _folded(name: str) -> str:
    return name.lower().replace("_", "-")


def _claim(claims: Mapping[str, object], name: str) -> object:
    """The claim of this name, or the one that its parts between dots lead to."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _text(value: object) -> str | None:
    """As bytes of UTF-8 that are read as Latin-1, as headers are here."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value).encode(errors="replace").decode("latin-1")
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()
