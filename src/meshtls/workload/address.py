"""Where the Workload API is: the value of SPIFFE_ENDPOINT_SOCKET (SPIFFE Workload Endpoint, section 4). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import SplitResult, quote, unquote, urlsplit

from meshtls.errors import ConfigError

__all__ = ["ENVIRONMENT_VARIABLE", "Address", "TcpAddress", "UnixAddress", "address_from", "parse_address"]

ENVIRONMENT_VARIABLE = "SPIFFE_ENDPOINT_SOCKET"
# Linux's limit without the terminating NUL; a longer path fails at connect with an error that names no path.
_MAX_UNIX_PATH = 107
# Characters that a path may hold unquoted (RFC 3986, section 3.3).
_UNQUOTED = "/:@!$&'()*+,;="
_FORMS = "unix:///absolute/path, unix:/absolute/path or tcp://IP:port"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket, by its absolute path."""

    path: str

    def __str__(self) -> str:
        return f"unix://{quote(self.path, safe=_UNQUOTED)}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address, IPv6 without brackets, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


Address = UnixAddress | TcpAddress


def address_from(address: Address | str | None, environment: Mapping[str, str]) -> Address:
    """``address`` if given, else the environment's. Raises ConfigError."""
    if address is not None:
        return parse_address(address) if isinstance(address, str) else address
    text = environment.get(ENVIRONMENT_VARIABLE)
    if not text:
        raise ConfigError(f"no Workload API address: set {ENVIRONMENT_VARIABLE}, or give an address; wanted {_FORMS}")
    return parse_address(text)


def parse_address(text: str) -> Address:
    """Read ``unix:///absolute/path``, ``unix:/absolute/path`` or ``tcp://IP:port``. Raises ConfigError.

    A Unix socket's URI has no authority (SPIFFE Workload Endpoint, section 4), so RFC 3986, section 3 allows both
    forms: with an empty authority and without any.
    """
    scheme, separator, rest = text.partition(":")
    try:
        # urlsplit would drop control characters silently.
        if separator and scheme.lower() == "unix" and text.isprintable():
            return _unix(rest)
        if rest.startswith("//") and scheme.lower() == "tcp" and text.isprintable():
            return _tcp(urlsplit(text))
    except ValueError as error:
        raise ConfigError(f"Workload API address {text!r}: {error}") from error
    raise ConfigError(f"Workload API address {text!r}: wanted {_FORMS}")


def _unix(rest: str) -> UnixAddress:
    written = rest.removeprefix("//")
    path = unquote(written, errors="strict")
    if not written.startswith("/"):
        raise ValueError("wanted an absolute path and no host, as in unix:///run/agent.sock or unix:/run/agent.sock")
    if "?" in rest or "#" in rest:
        raise ValueError("wanted no query and no fragment")
    if "\0" in path:
        raise ValueError("wanted a path without a NUL byte")
    if path.endswith("/"):
        raise ValueError("wanted the path of a socket, not of a directory")
    if len(path.encode()) > _MAX_UNIX_PATH:
        raise ValueError(f"wanted a path of at most {_MAX_UNIX_PATH} bytes, got {len(path.encode())}")
    return UnixAddress(path)


def _tcp(uri: SplitResult) -> TcpAddress:
    for part in ("username", "password", "path", "query", "fragment"):
        if getattr(uri, part):
            raise ValueError(f"wanted no {part}, got {getattr(uri, part)!r}")
    written = uri.netloc.rpartition(":")[2]
    if not uri.hostname or not (written.isascii() and written.isdecimal()) or uri.port is None:
        raise ValueError("wanted an IP address and a port, as in tcp://127.0.0.1:8081")
    if uri.port == 0:
        raise ValueError("wanted a port from 1 to 65535, got 0")
    try:
        return TcpAddress(str(ip_address(uri.hostname)), uri.port)
    except ValueError as error:
        raise ValueError(f"wanted an IP address, not a name, got {uri.hostname!r}") from error
