"""The section ``tracing`` of a sidecar's file. Pure."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar
from urllib.parse import urlsplit

import msgspec

from meshtls.address import Address, is_loopback
from meshtls.config.keys import FLAG, PATH, TEXT, Key, Value, number
from meshtls.config.reading import Rule, RuleProblems
from meshtls.errors import RequestError
from meshtls.scalars import shown

__all__ = ["OtlpEndpoint", "TracingKeys"]

#: The port of OTLP over HTTP (OTLP 1.0, section "Default port").
_PORT = 4318
_PATH = re.compile(r"(?:/[!-~]*)?", re.ASCII)
_FRACTION = re.compile(r"0|1|1\.0+|0?\.[0-9]{1,9}", re.ASCII)
_WANTED = "wanted an address of a collector such as http://127.0.0.1:4318 or https://collector.example:4318"


class OtlpEndpoint(msgspec.Struct, frozen=True):
    """A collector that takes OTLP over HTTP. ``path`` stands before ``/v1/traces``."""

    tls: bool
    address: Address
    path: str = ""

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}{self.path}"


def _endpoint(text: str) -> OtlpEndpoint:
    if "@" in text or "?" in text or "#" in text:  # not shown, since it may be secret
        raise RequestError(f"{_WANTED}, without a password and a query; headers_file is for what is secret")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise RequestError(f"{_WANTED}, got {shown(text)}: {error}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or not text.isascii():
        raise RequestError(f"{_WANTED}, got {shown(text)}")
    if not _PATH.fullmatch(parts.path) or not parts.netloc.isprintable():
        raise RequestError(f"{_WANTED}, got {shown(text)}")
    return OtlpEndpoint(parts.scheme == "https", Address(parts.hostname, port or _PORT), parts.path.rstrip("/"))


def _fraction(text: str) -> float:
    if not _FRACTION.fullmatch(text):
        raise RequestError(f"wanted a number from 0 to 1 such as 0.01, got {shown(text)}")
    return float(text)


_ENDPOINT: Value[OtlpEndpoint] = Value(
    "http:// or https:// URL", _endpoint, {"type": "string", "pattern": "^https?://"}
)
_SHARE: Value[float] = Value(
    "number, 0 to 1", _fraction, {"type": "number", "minimum": 0, "maximum": 1}, lambda one: f"{one:g}"
)


def _plaintext_stays_here(otlp: OtlpEndpoint, insecure_plaintext_to_another_host: bool) -> RuleProblems:
    if not otlp.tls and not is_loopback(otlp.address.host) and not insecure_plaintext_to_another_host:
        yield (
            "otlp",
            f"wanted https://, or a collector on loopback, got {otlp}: readers of the network path would see who calls"
            " whom; insecure_plaintext_to_another_host allows it",
        )


def _tokens_go_encrypted(otlp: OtlpEndpoint, headers_file: Path | None) -> RuleProblems:
    if headers_file is not None and not otlp.tls and not is_loopback(otlp.address.host):
        yield "headers_file", f"wanted https:// for headers that are secret, got {otlp}"


def _authorities_are_of_tls(otlp: OtlpEndpoint, ca_file: Path | None) -> RuleProblems:
    if ca_file is not None and not otlp.tls:
        yield "ca_file", f"wanted no such key with {otlp}, which is not verified; write https://"


class TracingKeys(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans are sent, and how many are made."""

    otlp: Annotated[
        OtlpEndpoint,
        Key("The collector, which takes OTLP over HTTP. Spans are posted to /v1/traces below it.", _ENDPOINT),
    ]
    sample: Annotated[
        float,
        Key(
            "The share of traces that are recorded, of those that begin here. A request or a stream that belongs to a"
            " trace already is recorded if its caller says so.",
            _SHARE,
        ),
    ] = 0.01
    service_name: Annotated[
        str, Key("service.name of all spans.", TEXT, default="workload.service, else the sidecar's name")
    ] = ""
    ca_file: Annotated[
        Path | None,
        Key("Certificates in PEM that verify the collector.", PATH, default="the system's authorities"),
    ] = None
    headers_file: Annotated[
        Path | None,
        Key(
            "A file with headers for the collector, such as authorization: Bearer ..., one a line. Nobody but the"
            " sidecar's user may have access to it. It is read again for each post.",
            PATH,
            default="none",
        ),
    ] = None
    queue: Annotated[
        int, Key("Spans that wait to be sent; further ones are dropped, and counted.", number(64, 1_000_000))
    ] = 4096
    insecure_plaintext_to_another_host: Annotated[
        bool,
        Key("Spans may be sent in plaintext to another host: readers of the network path see who calls whom.", FLAG),
    ] = False

    RULES: ClassVar[tuple[Rule, ...]] = (_plaintext_stays_here, _tokens_go_encrypted, _authorities_are_of_tls)
