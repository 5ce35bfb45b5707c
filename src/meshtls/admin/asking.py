"""Asks the admin interfaces of running processes, and follows their streams."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from meshtls.address import Address
from meshtls.errors import ConfigError, RequestError
from meshtls.json_text import read_json
from meshtls.observe.process_name import ProcessName

__all__ = [
    "Interface",
    "Interfaces",
    "ask",
    "ask_all",
    "ask_text",
    "followed",
    "is_admin_interface",
    "mistaken",
    "processes_at",
]

_NOT_ADMIN = (
    "this is not the admin interface (admin.socket), which answers in HTTP; the server's socket_path and an agent's"
    " Workload API are other sockets"
)
_SECONDS = 10.0
#: Bytes. A page with 10,000 live connections has 7 MiB; an event has two IDs, a path and some texts.
_LONGEST_PAGE, _LONGEST_EVENT = 16 << 20, 256 << 10
_TOO_LONG = "/connections can be asked for fewer, by limit=1000"
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*")
_WORKER = re.compile(r"[1-9][0-9]{0,3}")


@dataclass(frozen=True, slots=True)
class Interface:
    """Where one process answers; ``name`` is for people."""

    where: Path | Address

    @property
    def name(self) -> str:
        return str(self.where)


Interfaces = Sequence[Interface]


def processes_at(path: Path) -> list[Interface]:
    """The socket, or those of the workers of one configuration."""
    if not path.exists():
        numbers = [one.name.removeprefix(f"{path.name}.") for one in path.parent.glob(f"{path.name}.*")]
        workers = sorted(int(number) for number in numbers if _WORKER.fullmatch(number))
        if workers:
            return [Interface(path.with_name(f"{path.name}.{number}")) for number in workers]
    return [Interface(path)]


async def ask(at: Interface, path: str, words: Mapping[str, str] | None = None, method: str = "GET") -> dict[str, Any]:
    """The record of a page. Raises RequestError for a request that is refused, ConfigError where nothing answers."""
    status, data = await _answer(at, path, words or {}, method)
    record = _record(data, at)
    if status not in (200, 503) or "error" in record:
        raise RequestError(f"{at.name}: {record.get('error') or f'it answered {status}'}")
    return record


async def ask_text(at: Interface, path: str) -> str:
    """A page that is no record, such as ``/stats/prometheus``. Raises as ``ask``."""
    status, data = await _answer(at, path, {}, "GET")
    if status != 200:
        raise RequestError(f"{at.name}: {_record(data, at).get('error') or f'it answered {status}'}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{at.name}: wanted text in UTF-8, got {error}") from error


async def mistaken(at: Interface, wanted: ProcessName) -> str:
    """Why the process there is not the wanted one; empty if it is. Raises as ``ask``."""
    found = ProcessName.of_record(await ask(at, "/server_info"))
    return wanted.mismatch(found, f"the admin interface {at.name}") if found is not None else ""


async def is_admin_interface(path: Path) -> bool:
    """Whether an admin interface answers at this socket."""
    try:
        return bool(await ask(Interface(path), "/help"))
    except (ConfigError, RequestError):
        return False


async def ask_all(
    interfaces: Interfaces, path: str, words: Mapping[str, str] | None = None, method: str = "GET"
) -> list[dict[str, Any]]:
    """The record of each interface. Raises as ``ask``."""
    return [await ask(one, path, words, method) for one in interfaces]


async def followed(at: Interface, words: Mapping[str, str]) -> AsyncGenerator[dict[str, Any], None]:
    """The events of a process, until it ends. Raises as ``ask``."""
    reader, writer = await _asked(at, "/tap", words, "GET")
    try:
        status = await _status(reader, at)
        if status != 200:
            raise RequestError(f"{at.name}: {_record(await _whole(reader, at), at).get('error')}")
        while line := await _line(reader, at):
            yield _record(line, at)
    except ConnectionError:
        return
    finally:
        writer.close()


async def _answer(at: Interface, path: str, words: Mapping[str, str], method: str) -> tuple[int, bytes]:
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await _asked(at, path, words, method)
            try:
                return await _status(reader, at), await _whole(reader, at)
            finally:
                writer.close()
    except TimeoutError as error:
        raise ConfigError(f"{at.name}: no answer within {_SECONDS:g} s") from error


async def _asked(
    at: Interface, path: str, words: Mapping[str, str], method: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        if isinstance(at.where, Path):
            reader, writer = await asyncio.open_unix_connection(str(at.where), limit=_LONGEST_EVENT)
        else:
            reader, writer = await asyncio.open_connection(at.where.host, at.where.port, limit=_LONGEST_EVENT)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"{at.name}: nothing answers there: {why}; is the process running, with this admin.socket, as this user?"
        ) from error
    target = f"{path}?{urlencode(words)}" if words else path
    host = str(at.where) if isinstance(at.where, Address) else "localhost"
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode())
    return reader, writer


async def _status(reader: asyncio.StreamReader, at: Interface) -> int:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
        raise ConfigError(f"{at.name}: {_NOT_ADMIN}") from error
    found = _STATUS.fullmatch(head.partition(b"\r\n")[0])
    if found is None:
        raise ConfigError(f"{at.name}: {_NOT_ADMIN}")
    return int(found[1])


async def _whole(reader: asyncio.StreamReader, at: Interface) -> bytes:
    data = bytearray()
    while chunk := await reader.read(1 << 16):
        data += chunk
        if len(data) > _LONGEST_PAGE:
            raise ConfigError(f"{at.name}: wanted an answer of at most {_LONGEST_PAGE} bytes; {_TOO_LONG}")
    return bytes(data)


async def _line(reader: asyncio.StreamReader, at: Interface) -> bytes:
    try:
        return await reader.readline()
    except ValueError as error:
        raise ConfigError(f"{at.name}: wanted an event of at most {_LONGEST_EVENT} bytes") from error


def _record(data: bytes, at: Interface) -> dict[str, Any]:
    try:
        found = read_json(data)
    except ValueError as error:
        raise ConfigError(f"{at.name}: wanted JSON, got {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{at.name}: wanted a JSON object")
    return found
