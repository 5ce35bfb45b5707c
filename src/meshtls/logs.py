"""Loggers whose messages can't forge other log records.

Messages quote peers, callers and files. Every logger of meshtls is made by ``logger``, which escapes characters that
are not printable when the record is created, so that it works with any handler and formatter of a program.
``LineFormatter`` does the same for everything that the command line logs, including records of other packages.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

from meshtls.printable import printable, printable_lines

__all__ = ["LineFormatter", "logger", "traceback_text"]

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


class LineFormatter(logging.Formatter):
    """Formats a record as one line. A traceback follows on indented lines, unlike the first line of any record."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # may be from another formatter
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        text = printable(super().formatMessage(record))
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  # logging's
        return traceback_text(ei[1])

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  # logging's
        return _indented(stack_info)


def traceback_text(error: BaseException | None) -> str:
    """The traceback of this error, with every line printable and indented."""
    return _indented("".join(traceback.format_exception(error)).rstrip("\n"))


def _escape(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    if not message.isprintable():
        record.msg, record.args = printable(message), ()
    if record.exc_info:
        record.exc_text = traceback_text(record.exc_info[1])
    return True


def _indented(text: str) -> str:
    return _INDENT + printable_lines(text).replace("\n", "\n" + _INDENT)
