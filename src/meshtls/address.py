"""``host:port`` as an object, parsed once. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from meshtls.errors import RequestError
from meshtls.scalars import shown

__all__ = ["Address"]

_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>[0-9]{1,5})", re.ASCII
)
_MAX_PORT = 65535


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
        return cls(match["six"] or match["host"], int(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
