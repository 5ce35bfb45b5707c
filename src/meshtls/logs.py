"""Loggers whose messages can't forge other log records.

Messages quote peers, callers and files. Every logger of meshtls is made by ``logger``, which escapes characters that
are not printable when the record is created, so that it works with any handler and formatter of a program.
``LineFormatter`` and ``JsonFormatter`` do the same for everything that the command line logs, including records of
other packages. A record that is made for a connection (``of_connection``) has its ID in both.
"""

from __future__ import annotations

import json
import logging
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from enum import Enum
from types import TracebackType
from typing import Protocol
from weakref import ReferenceType, ref

from meshtls.printable import printable, printable_json, printable_lines

__all__ = [
    "HasConnectionId",
    "JsonFormatter",
    "LineFormatter",
    "LogFormat",
    "formatter",
    "levels",
    "logger",
    "of_connection",
    "set_configured_level",
    "set_level",
    "task_of_connection",
    "traceback_text",
]

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_INDENT = "  "
#: Characters of one message; of the rest only the number is logged.
_LONGEST = 16384


def logger(name: str) -> logging.Logger:
    """The logger of this name. Its messages are escaped to one line of printable characters.

    A message that needs no escaping is unchanged, including its arguments.
    """
    log = logging.getLogger(name)
    log.addFilter(_escape)
    return log


class HasConnectionId(Protocol):
    """A connection, whose ID may be known better later."""

    @property
    def connection_id(self) -> str: ...


#: Weak, since tasks and timers that begin meanwhile keep a copy of the context.
_connection: ContextVar[ReferenceType[HasConnectionId] | None] = ContextVar("meshtls connection", default=None)


class of_connection:  # noqa: N801  # used as a function
    """``with of_connection(connection)``: what is logged in the body is about this connection.

    A class, because a generator with ``contextmanager`` costs four times as much, and this is for each connection.
    """

    __slots__ = ("_before", "_connection")

    def __init__(self, connection: HasConnectionId) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._before = _connection.set(ref(self._connection))

    def __exit__(self, *raised: object) -> None:
        _connection.reset(self._before)


def task_of_connection(connection: HasConnectionId) -> None:
    """From now on, what this task logs is about this connection. While it runs, it needs less memory than
    ``of_connection``.
    """
    _connection.set(ref(connection))


def connection_id() -> str:
    """The ID of the connection that is logged about here; empty if there is none."""
    found = _connection.get()
    connection = found() if found is not None else None
    return connection.connection_id if connection is not None else ""


class LogFormat(Enum):
    """How the lines of the log are written."""

    CONSOLE = "console"
    JSON = "json"


class LineFormatter(logging.Formatter):
    """Formats a record as one line. A traceback follows on indented lines, unlike the first line of any record."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # may be from another formatter
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        of = connection_id()
        text = printable(super().formatMessage(record)) + (f" connection={of}" if of else "")
        return _bounded(text)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  # logging's
        return traceback_text(ei[1])

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  # logging's
        return _indented(stack_info)


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line: ``time`` (UTC), ``level``, ``logger``, ``message``,
    ``connection_id`` where there is one, and ``traceback`` where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _bounded(record.getMessage()),
        }
        if of := connection_id():
            said["connection_id"] = of
        if record.exc_info and record.exc_info[1] is not None:
            said["traceback"] = _traceback(record.exc_info[1])
        return printable_json(json.dumps(said))


def formatter(kind: LogFormat) -> logging.Formatter:
    """The formatter for this format."""
    if kind is LogFormat.JSON:
        return JsonFormatter()
    return LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


# -- levels, which change while the process runs --

_configured_level = ""


def set_configured_level(level: str) -> None:
    """Log from the level of the configuration on. If it is still the same one, a level that was set since stays."""
    global _configured_level
    if level != _configured_level:
        _configured_level = level
        logging.root.setLevel(level)


def set_level(name: str, level: str | None) -> None:
    """Log from this level on by the logger ``name``, and those below it; "" is for all. None: as the logger above it.

    Raises LookupError for a logger that nothing logs by.
    """
    if name and name not in logging.root.manager.loggerDict:
        raise LookupError(name)
    logging.getLogger(name or None).setLevel(level or logging.NOTSET)


def levels() -> dict[str, str]:
    """The level of every logger that has one of its own, and of ours; "" is for all others."""
    found = {"": logging.getLevelName(logging.root.level)}
    for name in sorted(logging.root.manager.loggerDict):
        one = logging.getLogger(name)
        if one.level or name.partition(".")[0] == "meshtls":
            found[name] = logging.getLevelName(one.getEffectiveLevel())
    return found


def traceback_text(error: BaseException | None) -> str:
    """The traceback of this error, with every line printable and indented."""
    return _indented(_traceback(error))


def _traceback(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error)).rstrip("\n")


def _bounded(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


def _escape(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if not message.isprintable():
        record.msg, record.args = printable(message), ()
    if record.exc_info:
        record.exc_text = traceback_text(record.exc_info[1])
    return True


def _indented(text: str) -> str:
    return _INDENT + printable_lines(text).replace("\n", "\n" + _INDENT)
