"""TLS from us to a server outside of the mesh: TLS origination, by Istio's modes SIMPLE and MUTUAL.

The server proves one of the names that are wanted of it, by a chain to one of the roots that are wanted, as a web
server does (RFC 9525), and not a SPIFFE ID by the bundle of a trust domain: whoever is connected here is no verified
peer, and no policy takes it for one. There is no setting that leaves out a part of this verification.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from typing import Any

import msgspec

from meshtls.errors import ConfigError, NotAuthorizedError
from meshtls.logs import logger
from meshtls.reloading import FileStat, stat_of_regular
from meshtls.tls.alerts import provoke_alert
from meshtls.tls.context import TlsOptions, harden
from meshtls.tls.failures import peer_error
from meshtls.tls.records import TlsRecords
from meshtls.tls.states import EngineStep

__all__ = ["OriginatedTls", "Origination", "OriginationContexts"]

log = logger("meshtls.tls")

#: None for a file that can't be read as one.
_Mark = FileStat | None


class Origination(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a server, and what we show it.

    - ``server_name``: a DNS name, which goes into the ClientHello (RFC 6066, section 3), or an IP address, which does
      not. The server must have it unless there are ``names``.
    - ``names``: DNS names, IP addresses, URIs or mail addresses, of which the server's certificate must have one.
    - ``roots``: the file of the authorities; None for those of the system.
    - ``certificate``, ``key``: the files of what we show; None shows nothing.
    """

    server_name: str
    names: tuple[str, ...] = ()
    roots: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def expected(self) -> tuple[str, ...]:
        """The names of which the server must have one."""
        return self.names or (self.server_name,)


class OriginationContexts:
    """The context of the newest files. They are looked at for each connection, and read when they were replaced."""

    def __init__(self, wanted: Origination, options: TlsOptions) -> None:
        self.wanted = wanted
        self._options = options
        self._files = tuple(one for one in (wanted.roots, wanted.certificate, wanted.key) if one is not None)
        self._marks: tuple[_Mark, ...] = ()
        self._context: ssl.SSLContext | None = None

    def current(self) -> ssl.SSLContext:
        """Raises ConfigError if the files can't be used, unless older ones could, which stay in use then."""
        marks = tuple(map(_mark, self._files))
        if self._context is None or marks != self._marks:
            self._marks = marks
            try:
                self._context = self._build(marks)
            except ConfigError as error:
                if self._context is None:
                    raise
                log.warning("%s; what was read before stays in use", error)
        return self._context

    def check(self) -> None:
        """Raises ConfigError if there can be no connection with these settings and files."""
        try:
            OriginatedTls(self)
        except ValueError as error:
            raise ConfigError(f"wanted a server's name, got {self.wanted.server_name!r}: {error}") from error

    def _build(self, marks: tuple[_Mark, ...]) -> ssl.SSLContext:
        wanted = self.wanted
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        harden(context, self._options, server_side=False)
        context.hostname_checks_common_name = False  # a subject's common name is no name of a server (RFC 9525, 6.3)
        context.check_hostname = not wanted.names
        for file, mark in zip(self._files, marks, strict=True):
            if mark is None:
                raise ConfigError(f"{file}: wanted a file that can be read")
        if wanted.roots is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            try:
                context.load_verify_locations(cafile=wanted.roots)
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(f"{wanted.roots}: wanted certificates of authorities as PEM: {error}") from error
        if wanted.certificate is not None:
            try:
                # With no password at all, OpenSSL would ask for that of an encrypted key on the terminal.
                context.load_cert_chain(wanted.certificate, wanted.key, password="")
            except (OSError, ssl.SSLError, ValueError) as error:
                raise ConfigError(
                    f"{wanted.certificate}, {wanted.key}: wanted a certificate and its key as PEM, without a password:"
                    f" {error}"
                ) from error
        return context

    def __repr__(self) -> str:
        return f"<OriginationContexts to {self.wanted.server_name} [{len(self._files)} files]>"


class OriginatedTls(TlsRecords):
    """The records of one connection, from its handshake on: call ``handshake`` until it returns the server's names."""

    __slots__ = ("_wanted",)

    def __init__(self, contexts: OriginationContexts) -> None:
        """Raises ConfigError as ``OriginationContexts.current`` does."""
        super().__init__()
        self._wanted = contexts.wanted.names
        self._tls = contexts.current().wrap_bio(self._in, self._out, server_hostname=contexts.wanted.server_name)
        self._records = self._tls

    def handshake(self) -> tuple[tuple[str, str], ...] | None:
        """Take one step. None: more input is needed. Returns the kinds and values of the names in the certificate.

        Raises PeerError if we refuse the server (NotAuthorizedError for its names) or it refuses us.
        """
        self._enter()
        try:
            self._tls.do_handshake()
            certificate: dict[str, Any] = self._tls.getpeercert() or {}
            names = tuple(certificate.get("subjectAltName", ()))
            if self._wanted and not any(_is_named(one, names) for one in self._wanted):
                self._refuse()
                raise NotAuthorizedError(
                    f"wanted a server's certificate for one of {', '.join(self._wanted)}, got one for"
                    f" {', '.join(value for _, value in names) or 'no name'}"
                )
            self._proven()
        except ssl.SSLWantReadError:
            self._check_end()
            return None
        except ssl.SSLError as error:
            self._step(EngineStep.FAILED)
            raise peer_error(error) from error
        finally:
            self._leave()
        return names

    def _refuse(self) -> None:
        """Queue a fatal alert, and use nothing more of what the server sent."""
        self._in.read()
        try:
            provoke_alert(self._in.write, self._tls.read)
        except ssl.SSLError:
            self._step(EngineStep.FAILED)

    def refusal(self) -> bytes:
        """The last bytes to send after ``handshake`` raised: the alert."""
        return self.outgoing()

    def keep_session(self) -> None:
        """Nothing: no session is resumed."""

    def forget_session(self) -> None:
        """Nothing, as ``keep_session``."""

    def __repr__(self) -> str:
        return f"<OriginatedTls {self.state.name}>"


def _is_named(wanted: str, names: tuple[tuple[str, str], ...]) -> bool:
    """Whether the certificate has this name: of DNS names one label may be ``*``, the first (RFC 9525, section 6.3)."""
    try:
        address = ipaddress.ip_address(wanted)
    except ValueError:
        return any(
            _is_dns_name(value, wanted) if kind == "DNS" else value == wanted
            for kind, value in names
            if kind in ("DNS", "URI", "email")
        )
    return any(kind == "IP Address" and _is_address(value, address) for kind, value in names)


def _is_dns_name(presented: str, wanted: str) -> bool:
    presented, wanted = presented.lower().removesuffix("."), wanted.lower().removesuffix(".")
    if presented.startswith("*."):
        first, dot, rest = wanted.partition(".")
        return bool(first and dot) and "." in rest and rest == presented[2:]
    return presented == wanted


def _is_address(presented: str, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return ipaddress.ip_address(presented.strip()) == wanted
    except ValueError:
        return False


def _mark(file: Path) -> _Mark:
    found = stat_of_regular(file)
    return found if found is not None and os.access(file, os.R_OK) else None
