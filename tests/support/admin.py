"""Asks an admin interface as its clients do: real sockets, one request a connection."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshtls.address import Address
from tests.support.waiting import SECONDS

__all__ = ["Got", "ask"]


@dataclass(frozen=True)
class Got:
    """A whole answer."""

    status: int
    head: str
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(where: Path | Address, path: str, method: str = "GET", body: str = "", **fields: str) -> Got:
    """``fields`` are header fields, with underscores for dashes; Host is the address unless it is given."""
    async with asyncio.timeout(SECONDS):
        if isinstance(where, Path):
            reader, writer = await asyncio.open_unix_connection(str(where))
        else:
            reader, writer = await asyncio.open_connection(where.host, where.port)
        named = {"Host": "admin" if isinstance(where, Path) else str(where)}
        named |= {name.replace("_", "-"): value for name, value in fields.items()}
        if body:
            named["Content-Length"] = str(len(body))
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in named.items())]
        writer.write("\r\n".join([*lines, "", body]).encode())
        data = await reader.read()
        writer.close()
        head, _, rest = data.decode().partition("\r\n\r\n")
        return Got(int(head.split(" ")[1]), head, rest)
