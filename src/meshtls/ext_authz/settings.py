"""The providers of external authorization, as keys of a configuration file (Istio's ``extensionProviders``). Pure.

A request's body is not sent: it is not there yet when the request is judged.
"""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Annotated, ClassVar, NamedTuple

import msgspec

from meshtls.address import Address, is_loopback
from meshtls.config.keys import ADDRESS, COUNT, FLAG, PATH, SECONDS, TEXT, Key, Value, choice, number
from meshtls.config.reading import Found, Rule, RuleProblems
from meshtls.errors import RequestError
from meshtls.ext_authz.header_rules import is_value
from meshtls.scalars import shown
from meshtls.wire.http_rules import FRAMING, is_token, latin_1, utf_8

__all__ = ["AddedHeader", "ExtAuthzProvider", "ProviderKind", "exposure"]

_PATTERN = re.compile(r"\*|\*?[^*]+|[^*]+\*?")
_PREFIX = re.compile(r"/[!-~]*", re.ASCII)


class ProviderKind(Enum):
    """How a provider is asked."""

    HTTP = "http"
    GRPC = "grpc"


def _header_pattern(text: str) -> str:
    if not _PATTERN.fullmatch(text) or not is_token(text):
        raise RequestError(f"wanted a header's name, which may begin or end with a star, got {shown(text)}")
    return text.lower()


class AddedHeader(NamedTuple):
    name: str
    value: str


def _header(text: str) -> AddedHeader:
    name, colon, value = text.partition(":")
    value = latin_1(value.strip())
    if not colon or not is_token(name) or name.lower() in FRAMING or not is_value(value):
        raise RequestError(f"wanted a header such as 'x-asked-by: sidecar', got {shown(text)}")
    return AddedHeader(name.lower(), value)


def _path_prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text) or "?" in text or "#" in text:
        raise RequestError(f"wanted a path such as /check, got {shown(text)}")
    return text


_HEADER_PATTERN: Value[str] = Value("header name, a star at an end", _header_pattern, {"type": "string"})
_HEADER: Value[AddedHeader] = Value(
    "name: value", _header, {"type": "string", "pattern": "^[^:]+:"}, lambda one: f"{one.name}: {utf_8(one.value)}"
)
_PATH_PREFIX: Value[str] = Value("path", _path_prefix, {"type": "string", "pattern": "^/"})
_HTTP_ONLY = (
    "path_prefix",
    "include_request_headers",
    "include_additional_headers",
    "headers_upstream_on_allow",
    "headers_downstream_on_deny",
    "headers_downstream_on_allow",
)


def _grpc_says_headers_itself(kind: ProviderKind, found: Found[ExtAuthzProvider]) -> RuleProblems:
    if kind is ProviderKind.GRPC:
        for field in _HTTP_ONLY:
            if field in found.given:
                yield field, "wanted no such key with kind: grpc, which sends all headers and is told what to change"


def exposure(address: Address, ca_file: Path | None, insecure_plaintext_to_another_host: bool) -> str | None:
    """Why these must not go together; None where they may."""
    if is_loopback(address.host) or ca_file or insecure_plaintext_to_another_host:
        return None
    return (
        "wanted loopback, such as a listener of a sidecar that dials the provider, or ca_file for TLS, got"
        f" {address}: an attacker on the network path could answer; insecure_plaintext_to_another_host allows it"
    )


def _others_are_verified(
    address: Address, ca_file: Path | None, insecure_plaintext_to_another_host: bool
) -> RuleProblems:
    exposed = exposure(address, ca_file, insecure_plaintext_to_another_host)
    if exposed:
        yield "address", exposed


class ExtAuthzProvider(msgspec.Struct, frozen=True, kw_only=True):
    """A service that decides on requests, and on connections if it is asked by gRPC."""

    name: Annotated[str, Key("The name by which a CUSTOM policy refers to it.", TEXT)]
    kind: Annotated[
        ProviderKind,
        Key(
            "http asks with the request's method, path and some headers; grpc calls Envoy's Check.",
            choice(ProviderKind),
        ),
    ]
    address: Annotated[Address, Key("Where it listens.", ADDRESS)]
    ca_file: Annotated[
        Path | None,
        Key(
            "Certificates in PEM that verify it, by the host of its address.", PATH, default="it is asked in plaintext"
        ),
    ] = None
    insecure_plaintext_to_another_host: Annotated[
        bool,
        Key("It may be asked in plaintext on another host: an attacker on the network path can answer for it.", FLAG),
    ] = False
    timeout: Annotated[float, Key("For one check, with the wait for a free slot.", SECONDS)] = 5.0
    concurrent_checks: Annotated[int, Key("Checks at once; more wait, within their timeout.", COUNT)] = 128
    fail_open_allow_unauthorized_requests: Annotated[
        bool, Key("What it can't be asked about is allowed: everything, when it is down. Istio's failOpen.", FLAG)
    ] = False
    status_on_error: Annotated[int, Key("The status for a client when it can't be asked.", number(400, 599))] = 403
    path_prefix: Annotated[str, Key("Put before the request's path.", _PATH_PREFIX, default="nothing")] = ""
    include_request_headers: Annotated[
        tuple[str, ...], Key("Headers of the request that it is sent, besides Host.", _HEADER_PATTERN)
    ] = ()
    include_additional_headers: Annotated[
        tuple[AddedHeader, ...],
        Key("Headers that it is sent with each check, over those of the request.", _HEADER, secret=True),
    ] = ()
    headers_upstream_on_allow: Annotated[
        tuple[str, ...], Key("Headers of its answer that the app gets, over those of the request.", _HEADER_PATTERN)
    ] = ()
    headers_downstream_on_deny: Annotated[
        tuple[str, ...],
        Key(
            "Headers of its answer that a denied client gets, besides Location and WWW-Authenticate.",
            _HEADER_PATTERN,
            default="all",
        ),
    ] = ()
    headers_downstream_on_allow: Annotated[
        tuple[str, ...],
        Key(
            "Headers of its answer that an allowed client gets, after those of the app's answer.",
            _HEADER_PATTERN,
        ),
    ] = ()

    RULES: ClassVar[tuple[Rule, ...]] = (_grpc_says_headers_itself, _others_are_verified)
