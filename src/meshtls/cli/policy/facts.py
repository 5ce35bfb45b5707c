"""The facts of one request as people write them: on the command line, or in a table of cases. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from meshtls.errors import RequestError
from meshtls.policy.istio.match import read_ip
from meshtls.policy.request import HttpRequest, Request, RequestAuth
from meshtls.scalars import shown
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.http1.fields import MessageError, read_field
from meshtls.wire.http1.request import is_target
from meshtls.wire.http_rules import NOT_JUDGED, is_host, is_method, is_token, latin_1

__all__ = ["PLAINTEXT", "Facts", "caller", "ip_address"]

PLAINTEXT = "plaintext"
_ANSWER = "a sidecar refuses such a request with 400 before any policy judges it"


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

    def request(self) -> Request:
        """Raises RequestError for a claim that is neither a text nor JSON, and for what a sidecar refuses unjudged."""
        http = self._http() if self.reads_http else None
        return Request(
            None if self.source is None else VerifiedPeer(self.source, ()),
            self.destination,
            port=self.port,
            source_ip=self.ip,
            sni=self.sni,
            http=http,
            remote_ip=self.remote_ip,
            destination_ip=self.destination_ip,
            auth=_auth(self.claims) if self.claims else None,
        )

    def _http(self) -> HttpRequest:
        method, host, path = self.method or "GET", self.host or "", self.path or "/"
        if not is_method(method):
            advice = f"; write {method.upper()}" if is_method(method.upper()) else ""
            raise _refused("method", "one in capital letters", method, advice)
        if host and not is_host(host):
            raise _refused("host", "a name or an address, with or without a port", host)
        if not is_target(path) and (method, path) != ("OPTIONS", "*"):
            raise _refused("path", "printable ASCII that begins with a slash, without blanks and '#'", path)
        headers = []
        for name, value in self.headers:
            if not is_token(name):
                raise _refused("header", "a field's name", name)
            try:
                _, field = read_field(f"{name}:{_field_value(value)}", {})
            except MessageError as error:
                raise RequestError(f"header {shown(name)}: {error}; {_ANSWER}") from error
            if field[0] not in NOT_JUDGED:
                headers.append(field)
        return HttpRequest(method, host, path, tuple(headers))


def _field_value(text: str) -> str:
    """As its bytes come in a request: of an argument of a command those that were given, UTF-8 or not."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("latin-1")
    except UnicodeEncodeError:  # half of a pair that JSON or YAML escaped
        return latin_1(text)


def _refused(what: str, wanted: str, got: str, advice: str = "") -> RequestError:
    return RequestError(f"{what}: wanted {wanted}, got {shown(got)}{advice}; {_ANSWER}")


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
