"""Asks the admin interfaces of running processes, and follows their streams."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import click

from meshtls.address import Address
from meshtls.admin.keys import AdminKeys
from meshtls.cli.http import HttpError, read_to_end
from meshtls.cli.options import ADDRESS
from meshtls.config.document import Section, read_text
from meshtls.config.reading import read_section
from meshtls.config.spire import either_form
from meshtls.errors import ConfigError, RequestError
from meshtls.json_text import read_json

__all__ = ["VARIABLE", "Interface", "Interfaces", "admin_options", "ask", "ask_all", "followed", "processes_at"]

#: Not MESHTLS_ADMIN_SOCKET, which leads to the API of the server.
VARIABLE = "MESHTLS_ADMIN_INTERFACE"
_SECONDS = 10.0
_LONGEST = 256 << 20
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*")
_WORKER = re.compile(r"[1-9][0-9]{0,3}")
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Interface:
    """Where one process answers; ``name`` is for people."""

    where: Path | Address

    @property
    def name(self) -> str:
        return str(self.where)


Interfaces = Sequence[Interface]


def admin_options(command: F) -> F:
    """``--socket``, ``--address`` and ``--config``, each as often as wanted, passed to the verb as ``interfaces``."""

    def found(ctx: click.Context, param: click.Parameter, value: tuple[Path, ...]) -> Interfaces:
        sockets = [*value, *(path for file in ctx.params.pop("config", ()) for path in _of_file(file))]
        addresses = ctx.params.pop("address", ())
        if not sockets and not addresses:
            named = os.environ.get(VARIABLE)
            if not named:
                raise ConfigError(
                    f"wanted --socket, --address or --config, or {VARIABLE} with a path: the key admin.socket in the"
                    " file of the running process says where it answers"
                )
            sockets = [Path(one) for one in named.split(os.pathsep)]
        return [*(one for path in sockets for one in processes_at(path)), *map(Interface, addresses)]

    for option in (
        click.option(
            "--socket",
            "interfaces",
            multiple=True,
            type=click.Path(path_type=Path),
            callback=found,
            help=f"An admin socket; the default is {VARIABLE}. Several are asked one after another.",
        ),
        click.option(
            "--address", multiple=True, type=ADDRESS, is_eager=True, help="Its loopback address (admin.listen)."
        ),
        click.option(
            "--config",
            multiple=True,
            type=click.Path(path_type=Path),
            is_eager=True,
            help="The file of a sidecar, an agent or a server, whose admin.socket is asked.",
        ),
    ):
        command = option(command)
    return command


def _of_file(file: Path) -> list[Path]:
    document, _ = either_form(str(file), read_text(file), "agent")
    section = document.root.keys.get("admin")
    keys = read_section(document, section, AdminKeys).values if isinstance(section, Section) else {}
    if keys.get("socket") is None:
        raise ConfigError(f"{file}: admin.socket: wanted the path of a Unix socket, got none: there is nothing to ask")
    socket: Path = keys["socket"]
    return [socket]


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
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await _asked(at, path, words or {}, method)
            try:
                status = await _status(reader, at)
                record = await _whole_record(reader, at)
            finally:
                writer.close()
    except TimeoutError as error:
        raise ConfigError(f"{at.name}: no answer within {_SECONDS:g} s") from error
    if status not in (200, 503) or "error" in record:
        raise RequestError(f"{at.name}: {record.get('error') or f'it answered {status}'}")
    return record


async def ask_all(
    interfaces: Interfaces, path: str, words: Mapping[str, str] | None = None, method: str = "GET"
) -> list[dict[str, Any]]:
    """Of each the record. Raises as ``ask``."""
    return [await ask(one, path, words, method) for one in interfaces]


async def followed(at: Interface, words: Mapping[str, str]) -> AsyncGenerator[dict[str, Any], None]:
    """The events of a process, until it ends. Raises as ``ask``."""
    reader, writer = await _asked(at, "/tap", words, "GET")
    try:
        status = await _status(reader, at)
        if status != 200:
            raise RequestError(f"{at.name}: {(await _whole_record(reader, at)).get('error')}")
        while line := await reader.readline():
            yield _record(line, at)
    except ConnectionError:
        return
    finally:
        writer.close()


async def _asked(
    at: Interface, path: str, words: Mapping[str, str], method: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        if isinstance(at.where, Path):
            reader, writer = await asyncio.open_unix_connection(str(at.where), limit=1 << 20)
        else:
            reader, writer = await asyncio.open_connection(at.where.host, at.where.port, limit=1 << 20)
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
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ConfigError(f"{at.name}: wanted an HTTP answer, got none") from error
    found = _STATUS.fullmatch(head.partition(b"\r\n")[0])
    if found is None:
        raise ConfigError(f"{at.name}: wanted an HTTP answer, got something else")
    return int(found[1])


async def _whole_record(reader: asyncio.StreamReader, at: Interface) -> dict[str, Any]:
    try:
        return _record(await read_to_end(reader, _LONGEST), at)
    except HttpError as error:
        raise ConfigError(f"{at.name}: {error}") from error


def _record(data: bytes, at: Interface) -> dict[str, Any]:
    try:
        found = read_json(data)
    except ValueError as error:
        raise ConfigError(f"{at.name}: wanted JSON, got {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{at.name}: wanted a JSON object")
    return found
