"""The types of single values in Istio's documents. Each parser takes a text, or raises RequestError. Pure.

Where Istio loads a value that can never match, and a DENY with it would silently deny nothing, the value is refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from typing import TypeVar

from meshtls.config import keys
from meshtls.config.document import Plain
from meshtls.config.keys import choice
from meshtls.errors import RequestError
from meshtls.policy.istio.fields import Value
from meshtls.redaction import shown_url
from meshtls.scalars import duration, shown, whole_number
from meshtls.wire.http_rules import may_be_set

__all__ = [
    "CLAIM",
    "CREATED",
    "DURATION",
    "FLAG",
    "HEADER",
    "HOST",
    "IP_BLOCK",
    "JWKS",
    "JWKS_URI",
    "LABEL_KEY",
    "LABEL_VALUE",
    "NAME",
    "NAMESPACE",
    "NAMESPACE_PATTERN",
    "OUTPUT_HEADER",
    "PATH",
    "PATTERN",
    "PORT",
    "PORT_NUMBER",
    "PRINCIPAL",
    "SERVICE_ACCOUNT",
    "STRING",
    "TEXT",
    "TRUST_DOMAIN",
    "TRUST_DOMAIN_IN_WHEN",
    "one_of",
    "parsed_flag",
]

E = TypeVar("E", bound=Enum)
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NAME = re.compile(r"(?!.{254})([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LABEL_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}", re.ASCII)
_CREATED = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339, section 5.6
#: Beside an operator of a template.
_SEGMENT = re.compile(r"[a-zA-Z0-9\-._~%!$&'()+,;:@=]*", re.ASCII)
_IP_BLOCK = re.compile(r"[0-9A-Fa-f.:]{1,45}(/[0-9]{1,3})?", re.ASCII)
_LONGEST_SERVICE_ACCOUNT = 320
#: By these proxies tell an app who calls, and apps trust them.
_OF_PROXIES = frozenset(
    ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip")
)
_FLAGS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


def _string(text: str) -> str:
    return text


def _text(text: str) -> str:
    if not text:
        raise RequestError("wanted a value, got an empty text, which never matches; '*' matches any that is not empty")
    return text


def _matching(pattern: re.Pattern[str], wanted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise RequestError(f"wanted {wanted}, got {shown(text)}")
        return text

    return parse


def _label_key(text: str) -> str:
    prefix, slash, name = text.rpartition("/")
    if not _LABEL_NAME.fullmatch(name) or (slash and not _NAME.fullmatch(prefix)):
        raise RequestError(f"wanted a label's key such as app or example.org/app, without a star, got {shown(text)}")
    return text


def _label_value(text: str) -> str:
    if text and not _LABEL_NAME.fullmatch(text):
        raise RequestError(f"wanted a label's value of at most 63 characters, without a star, got {shown(text)}")
    return text


def _pattern(text: str) -> str:
    if "*" in _text(text)[1:-1] or (len(text) > 1 and text.startswith("*") and text.endswith("*")):
        raise RequestError(f"wanted at most one star, at the beginning or at the end, got {shown(text)}")
    return text


def _principal(text: str) -> str:
    if _pattern(text).startswith("spiffe:"):
        raise RequestError(
            f"wanted a SPIFFE ID without 'spiffe://', such as cluster.local/ns/web/sa/web, got {shown(text)}"
        )
    return text


def _trust_domain(text: str) -> str:
    if "/" in _pattern(text):
        raise RequestError(f"wanted a trust domain's name, without '/', got {shown(text)}")
    return text


def _service_account(text: str) -> str:
    parts = text.split("/", 2)
    if "*" in text or not all(parts) or len(parts) > 2 or len(text) > _LONGEST_SERVICE_ACCOUNT:
        raise RequestError(
            "wanted namespace/account, or an account of the policy's namespace,"
            f" without a star, of at most {_LONGEST_SERVICE_ACCOUNT} characters, got {shown(text)}"
        )
    return text


def _ip_block(text: str) -> str:
    if not _is_ip_block(text):
        raise RequestError(
            f"wanted an IP address or a CIDR block such as 10.0.0.0/8 or 2001:db8::/32, got {shown(text)}"
        )
    return text


def _is_ip_block(text: str) -> bool:
    # Python also takes a netmask for a length, and a scope ID.
    if not _IP_BLOCK.fullmatch(text):
        return False
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _port(text: str) -> int:
    try:
        return whole_number(1, 65535)(text)
    except RequestError as error:
        raise RequestError(f"wanted a port, 1 to 65535, got {shown(text)}") from error


def _path(text: str) -> str:
    if "{" not in _text(text) and "}" not in text:
        return _pattern(text)
    if wrong := _template_violation(text):
        raise RequestError(
            f"wanted a path, or a template such as /users/{{*}}/files/{{**}}, got {shown(text)}: {wrong}"
        )
    return text


def _template_violation(text: str) -> str:
    if not text.startswith("/"):
        return "a template begins with '/'"
    segments = text[1:].split("/")
    for number, segment in enumerate(segments):
        if segment in ("{*}", "{**}"):
            if "{**}" in segments[:number]:
                return "no operator may follow {**}"
        elif any(one in segment for one in "{}"):
            return "an operator, {*} or {**}, is a segment by itself"
        elif not _SEGMENT.fullmatch(segment):
            return f"the segment {shown(segment)} has a character that a template may not have"
        elif not segment and number < len(segments) - 1:
            return "a template has no empty segment"
    return ""


def _header(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise RequestError(f"wanted the name of a header, got {shown(text)}")
    return text


def _output_header(text: str) -> str:
    name = _header(text).lower()
    if not may_be_set(name):
        raise RequestError(
            f"wanted a header that a token may set, got {shown(text)}: it frames the request, is of one connection, or"
            " is the header by which a sidecar tells who calls"
        )
    if name.replace("_", "-") in _OF_PROXIES:
        raise RequestError(
            f"wanted a header that a token may set, got {shown(text)}: by it proxies tell the app who calls"
        )
    return text


def _created(text: str) -> datetime:
    found = _CREATED.fullmatch(text)
    if found:
        with contextlib.suppress(ValueError, OverflowError):
            moment = datetime.fromisoformat(f"{found[1]}T{found[2]}{found[3].upper().replace('Z', '+00:00')}")
            return moment.astimezone(UTC)
    raise RequestError(f"wanted a time such as 2026-01-31T12:00:00Z, got {shown(text)}")


def _jwks(text: str) -> str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError("wanted a JSON Web Key Set (RFC 7517, section 5), got a text that is not JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list) or not found["keys"]:
        raise RequestError('wanted a JSON Web Key Set (RFC 7517, section 5) with "keys", got none of them')
    return text


def _jwks_uri(text: str) -> str:
    if not re.match(r"(https?|spiffe)://[^/?#\s]", text) or not text.isprintable() or " " in text:
        raise RequestError(f"wanted https://..., http://... or spiffe://TRUST-DOMAIN, got {shown_url(text)}")
    return text


def parsed_flag(text: str) -> bool | None:
    """A flag as Go's ParseBool reads it, which Istio uses for annotations; None if it is none."""
    return _FLAGS.get(text)


def one_of(kind: type[E]) -> Value:
    """The names of this enum."""
    declared = choice(kind)
    return Value(declared.name, declared.parse)


STRING = Value("text, also an empty one", _string)
TEXT = Value("text", _text)
NAME = Value("a name", _matching(_NAME, "a name of a-z, 0-9, '-' and '.', of at most 253 characters"))
NAMESPACE = Value(
    "a namespace", _matching(_NAMESPACE, "a namespace's name of a-z, 0-9 and '-', of at most 63 characters")
)
LABEL_KEY = Value("a label's key", _label_key)
LABEL_VALUE = Value("a label's value", _label_value)
CREATED = Value("a time (RFC 3339)", _created)
FLAG = Value("true or false", keys.FLAG.parse, Plain.FLAG)
DURATION = Value("a duration such as 5s", duration)
PATTERN = Value("text, `prefix*`, `*suffix` or `*`", _pattern)
#: Each star is any text, wherever it is: a namespace is the only such pattern in Istio.
NAMESPACE_PATTERN = Value("a namespace; a star is any text", _text)
PRINCIPAL = Value("a SPIFFE ID without `spiffe://`, `prefix*`, `*suffix` or `*`", _principal)
TRUST_DOMAIN = Value("a trust domain, `prefix*`, `*suffix` or `*`", _trust_domain)
TRUST_DOMAIN_IN_WHEN = Value("a trust domain, `prefix*`, `*suffix` or `*`", _pattern)
SERVICE_ACCOUNT = Value("`namespace/account` or `account`", _service_account)
IP_BLOCK = Value("an IP address or a CIDR block", _ip_block)
HOST = Value("a host, `prefix*`, `*suffix` or `*`", _pattern)
PORT = Value("a port as text, 1 to 65535", lambda text: str(_port(text)))
PORT_NUMBER = Value("a port, 1 to 65535", _port, Plain.NUMBER)
PATH = Value("a path, `prefix*`, `*suffix`, `*` or a template", _path)
HEADER = Value("a header's name", _header)
OUTPUT_HEADER = Value("a header's name, none of a proxy or of framing", _output_header)
CLAIM = Value("a claim's name", _text)
JWKS = Value("a JSON Web Key Set", _jwks)
JWKS_URI = Value("a URI", _jwks_uri)
