"""Loggers whose records can't forge others, whatever is in them.

Messages quote what peers, callers and files say. Every logger of meshtls comes from ``logger``, which escapes what is
not printable where the record is made: so it holds under any handler and formatter that a program has.
``LineFormatter`` does the same for all that the command line logs, other packages' records included.
"""

from __future__ import annotations

import logging
import traceback
from types import TracebackType

from meshtls.printable import printable, printable_lines

__all__ = ["LineFormatter", "logger", "traceback_text"]

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_INDENT = "  "
#: Characters of one message; the rest is counted.
_LONGEST = 16384


def logger(name: str) -> logging.Logger:
    """The logger of this name, with messages that are one line of printable characters. A message that is one already
    stays as it is, arguments and all.
    """
    log = logging.getLogger(name)
    log.addFilter(_escape)
    return log


class LineFormatter(logging.Formatter):
    """A line for each record; a traceback follows on lines that are indented, as no record's first line is."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another formatter's
        return super().format(record)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's
        text = printable(super().formatMessage(record))
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802  # logging's
        return traceback_text(ei[1])

    def formatStack(self, stack_info: str) -> str:  # noqa: N802  # logging's
        return _indented(stack_info)


def traceback_text(error: BaseException | None) -> str:
    """The traceback of this error, every line of it printable and indented."""
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
