"""What the clauses of a rule are matched with: the facts of a connection, and those of one HTTP request on it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from meshtls.policy.istio.match import Ip, read_ip
from meshtls.policy.istio.paths import strip_query
from meshtls.policy.request import WORD_CLAIMS, HttpRequest, Request, RequestAuth

__all__ = ["ConnectionFacts", "HttpFacts"]


class ConnectionFacts:
    """The facts of a connection, or a stream of a tunnel. ``spiffe_id`` is without its scheme; None for plaintext."""

    __slots__ = ("_destination_ip", "_remote_ip", "_source_ip", "id_path", "port", "sni", "spiffe_id")

    def __init__(self, request: Request) -> None:
        source = request.source
        self.id_path = None if source is None else source.path
        self.spiffe_id = None if source is None else f"{source.trust_domain.name}{source.path}"
        self.port = request.port
        #: In lower case, as Envoy keeps it.
        self.sni = request.sni.lower() if request.sni else None
        self._source_ip, self._destination_ip = request.source_ip, request.destination_ip
        self._remote_ip = request.source_ip if request.remote_ip is None else request.remote_ip

    @property
    def source_ip_text(self) -> str:
        return _address(self._source_ip)

    @property
    def remote_ip_text(self) -> str:
        return _address(self._remote_ip)

    @property
    def destination_ip_text(self) -> str:
        return _address(self._destination_ip)

    @property
    def source_ip(self) -> Ip | None:
        return read_ip(self._source_ip)

    @property
    def remote_ip(self) -> Ip | None:
        return read_ip(self._remote_ip)

    @property
    def destination_ip(self) -> Ip | None:
        return read_ip(self._destination_ip)


class HttpFacts:
    """The facts of one HTTP request. ``path`` is without its query."""

    __slots__ = ("auth", "method", "path", "request")

    def __init__(self, request: HttpRequest, auth: RequestAuth | None) -> None:
        self.request, self.auth = request, auth
        self.method = request.method
        self.path = strip_query(request.path)

    @property
    def host(self) -> str | None:
        """In lower case; None where none was sent."""
        return self.request.host.lower() or None

    def header(self, name: str) -> tuple[str, ...]:
        """The values of the field ``name``, which is in lower case, one for each time that it was sent. A CONNECT has
        no ``:path`` (RFC 9113, section 8.5).
        """
        if name in ("host", ":authority"):
            return (self.request.host,) if self.request.host else ()
        if name == ":method":
            return (self.request.method,)
        if name == ":path":
            return (self.request.path,) if self.request.path else ()
        return tuple([value for key, value in self.request.headers if key == name])

    @property
    def request_principals(self) -> tuple[tuple[str, str], ...]:
        """Issuer and subject; of a JWT-SVID also its SPIFFE ID, divided at the last slash.

        Of the claims where both are there: a joined text could be divided in several ways.
        """
        auth = self.auth
        if auth is None:
            return ()
        issuer, subject = auth.claims.get("iss"), auth.claims.get("sub")
        if not isinstance(issuer, str) or not isinstance(subject, str):
            issuer, _, subject = auth.principal.rpartition("/")
        if auth.spiffe_id is None:
            return ((issuer, subject),)
        path, _, name = auth.spiffe_id.rpartition("/")
        return (issuer, subject), (path, name)

    @property
    def audiences(self) -> tuple[str, ...]:
        return () if self.auth is None else self.auth.audiences

    @property
    def presenter(self) -> str | None:
        return None if self.auth is None else self.auth.presenter

    def claim(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        """The text, or the texts of the list, at these nested keys."""
        found: object = None if self.auth is None else self.auth.claims
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, str):
            return tuple(found.split()) if keys[0] in WORD_CLAIMS and len(keys) == 1 else (found,)
        return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list | tuple) else ()


def _address(text: str | None) -> str:
    """An address for messages: only what is an address is shown."""
    return text if text is not None and read_ip(text) is not None else "no known address"
