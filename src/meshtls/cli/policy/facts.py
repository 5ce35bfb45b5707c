"""The facts of one request as people write them: on the command line, or in a table of cases. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from meshtls.errors import RequestError
from meshtls.policy.istio.match import read_ip
from meshtls.policy.request import HttpRequest, Request, RequestAuth
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.http import HttpLimits
from meshtls.wire.http1.fields import MessageError, read_field
from meshtls.wire.http1.request import is_target, request_of
from meshtls.wire.http_rules import is_host, is_method, is_token, latin_1

__all__ = ["PLAINTEXT", "Asked", "Facts", "caller", "ip_address"]

PLAINTEXT = "plaintext"
#: Where the sidecar's file is not known: it may accept underscores in names.
_LENIENT = HttpLimits(underscore_names=True)
#: Stands for a host that was not given: HTTP/1.1 has no request without one.
_NO_HOST = "host.invalid"


class Asked(NamedTuple):
    """A request as a sidecar judges it. ``notes``: what became of headers that it does not judge as they were given."""

    request: Request
    notes: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one request. ``source`` is None for plaintext. It is of HTTP if one of its fields is given."""

    source: SpiffeId | None
    destination: SpiffeId
    port: int | None = None
    method: str | None = None
    path: str | None = None
    host: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    claims: tuple[tuple[str, str], ...] = ()
    ip: str | None = None
    remote_ip: str | None = None
    destination_ip: str | None = None
    sni: str | None = None

    @property
    def reads_http(self) -> bool:
        return bool(self.method or self.path or self.host is not None or self.headers or self.claims)

    def asked(self, limits: HttpLimits | None = None, *, reads_http: bool = True) -> Asked:
        """What a sidecar judges. ``limits`` are those of its listener, None if they are not known. ``reads_http`` is
        False where it reads no HTTP.

        Raises RequestError for a claim that is neither a text nor JSON, and for what a sidecar refuses unjudged.
        """
        http: HttpRequest | None = None
        notes: tuple[str, ...] = ()
        if self.reads_http and reads_http:
            http = self._http(limits or _LENIENT)
            notes = tuple(self._notes(http, known=limits is not None))
        return Asked(
            Request(
                None if self.source is None else VerifiedPeer(self.source, ()),
                self.destination,
                port=self.port,
                source_ip=self.ip,
                sni=self.sni,
                http=http,
                remote_ip=self.remote_ip,
                destination_ip=self.destination_ip,
                auth=_auth(self.claims) if self.claims else None,
            ),
            notes,
        )

    def _http(self, limits: HttpLimits) -> HttpRequest:
        """The request, written as HTTP/1.1 and read by the sidecar's own filter."""
        method = self.method or "GET"
        if not is_method(method):
            advice = f"; write {method.upper()}" if is_method(method.upper()) else ""
            raise _refused("method", "one in capital letters", method, advice)
        fields = [(name, _field_value(value)) for name, value in self.headers]
        for name, value in fields:
            if not is_token(name):
                raise _refused("header", "a field's name", name)
            try:
                read_field(f"{name}:{value}", {})
            except MessageError as error:
                raise RequestError(f"header {shown(name)}: {error}; {_answer(error.status)}") from error
        hosts = [self.host] if self.host else []
        hosts += [value.strip(" \t") for name, value in fields if name.lower() == "host"]
        for host in hosts:
            if not is_host(host):
                raise _refused("host", "a name or an address, with or without a port", host)
        target = self._target(method, hosts)
        lines = [f"{method} {target} HTTP/1.1"]
        lines += [f"Host: {self.host or _NO_HOST}"] if self.host or not hosts else []
        lines += [f"{name}: {value}" for name, value in fields]
        try:
            http = request_of("\r\n".join(lines).encode("latin-1"), limits, {}).request
        except MessageError as error:
            raise RequestError(f"request: {error}; {_answer(error.status)}") from error
        return http if hosts else HttpRequest(http.method, "", http.path, http.headers)

    def _target(self, method: str, hosts: list[str]) -> str:
        if method == "CONNECT":
            if self.path:
                raise RequestError(f"path: wanted none for CONNECT, whose target is the host, got {shown(self.path)}")
            if not hosts:
                raise RequestError("host: wanted the host and port that CONNECT names, got none")
            return hosts[0]
        path = self.path or "/"
        if not is_target(path) and (method, path) != ("OPTIONS", "*"):
            raise _refused("path", "printable ASCII that begins with a slash, without blanks and '#'", path)
        return path

    def _notes(self, http: HttpRequest, *, known: bool) -> Iterator[str]:
        judged = {name for name, _ in http.headers} | {"host"}
        for name in dict.fromkeys(name.lower() for name, _ in self.headers):
            if name not in judged:
                yield f"{name} is not judged: {_NOT_JUDGED.get(name, _OF_CONNECTION)}"
            elif "_" in name and not known:
                yield f"{name} has an underscore: a sidecar refuses it with 400, unless http.underscore_names is set"


_OF_CONNECTION = "it is of one connection, or of a body's framing, and taken out before"
_NOT_JUDGED = {
    "expect": "it counts only with a body, such as one of content-length 1",
    "upgrade": "it counts only as websocket, beside the header connection with upgrade, in a GET without a body",
}


def _answer(status: int = 400) -> str:
    return f"a sidecar refuses such a request with {status} before any policy judges it"


def _field_value(text: str) -> str:
    """As its bytes come in a request: of an argument of a command those that were given, UTF-8 or not."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:  # half of a pair that JSON or YAML escaped
        return latin_1(text)


def _refused(what: str, wanted: str, got: str, advice: str = "") -> RequestError:
    return RequestError(f"{what}: wanted {wanted}, got {shown(got)}{advice}; {_answer()}")


def caller(text: str) -> SpiffeId | None:
    """A SPIFFE ID, or None for ``plaintext`` in any case. Raises RequestError."""
    if text.lower() == PLAINTEXT:
        return None
    try:
        return SpiffeId.parse(text)
    except RequestError as error:
        raise RequestError(f"wanted a SPIFFE ID, or the word {PLAINTEXT}: {error}") from error


def ip_address(text: str) -> str:
    """Raises RequestError for a text that is no IP address."""
    if read_ip(text) is None:
        raise RequestError(f"wanted an IP address, got {shown(text)}")
    return text


def _auth(given: Iterable[tuple[str, str]]) -> RequestAuth:
    """As of a token with these claims that no rule took yet: by one the issuer may be another, and the subject a SPIFFE
    ID. A value that begins as a list or an object is read as JSON.
    """
    claims: dict[str, object] = {}
    for name, text in given:
        value: object = text
        if text[:1] in ("[", "{"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise RequestError(f"claim {shown(name)}: wanted a text, or JSON, got {shown(text)}") from error
        claims[name] = value
    subject, issuer, audiences = claims.get("sub"), claims.get("iss"), claims.get("aud", [])
    presenter = claims.get("azp")
    return RequestAuth(
        principal=f"{issuer or ''}/{subject}" if subject else "",
        audiences=tuple(map(str, audiences)) if isinstance(audiences, list) else (str(audiences),),
        presenter=presenter if isinstance(presenter, str) else None,
        claims=claims,
    )
