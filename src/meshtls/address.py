"""``host:port`` as an object, parsed once, and URLs of services. Pure."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from meshtls.errors import RequestError
from meshtls.redaction import shown_url
from meshtls.scalars import shown, word

__all__ = ["Address", "checked_url", "host", "is_host_name", "is_loopback", "os_reason"]

_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_MAX_PORT = 65535
_LONGEST_LABEL, _LONGEST_NAME = 63, 253


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An address to listen on or to connect to. ``host`` is a name, or an IP address without brackets."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``127.0.0.1:8080``, ``web:8080`` or ``[::1]:8080``. Raises RequestError."""
        match = _HOST_AND_PORT.fullmatch(text)
        if not match or int(match["port"]) > _MAX_PORT:
            raise RequestError(f"wanted host:port such as 127.0.0.1:8080 or [::1]:8080, got {shown(text)}")
        if match["host"] and not is_host_name(match["host"]):
            raise RequestError(f"wanted a host name with labels of 1 to {_LONGEST_LABEL} characters, got {shown(text)}")
        return cls(match["six"] or match["host"], int(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_host_name(host: str) -> bool:
    """Whether a resolver takes this text: a name of labels of 1 to 63 characters, 253 in all (RFC 1035, section 2.3.4).

    Python's resolver raises UnicodeError, which is no OSError, for another one.
    """
    name = host.removesuffix(".")
    return len(name) <= _LONGEST_NAME and all(1 <= len(label) <= _LONGEST_LABEL for label in name.split("."))


def host(text: str) -> str:
    """A host name or an IP address, without brackets. Raises RequestError."""
    name = word(text)
    if ":" not in name and not is_host_name(name):
        raise RequestError(f"wanted a host name with labels of 1 to {_LONGEST_LABEL} characters, got {shown(text)}")
    return name


def checked_url(text: str) -> str:
    """An http or https URL without user, query and fragment. Raises RequestError."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and (parts.port is None or parts.port > 0)
        valid = valid and is_host_name(parts.hostname or "")
    except ValueError:
        valid = False
    if not valid or parts.username is not None or parts.query or parts.fragment or not text.isascii() or " " in text:
        raise RequestError(
            f"wanted a URL such as https://log.example.org or http://127.0.0.1:8085, got {shown_url(text)}"
        )
    return text.rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether what is sent to this host stays on the machine, as far as its text says."""
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def os_reason(error: OSError) -> str:
    """Why a system call failed, in the words of the C library, such as ``Connection refused``.

    asyncio's errors have a text of their own, and only the number in common.
    """
    if error.errno is not None and error.errno > 0:  # it is negative for a name that is not resolved
        return os.strerror(error.errno)
    return error.strerror or str(error) or type(error).__name__
