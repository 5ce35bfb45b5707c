"""No log record can forge another, in our own format or in that of a program that uses the library."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator

import pytest

from meshtls.logs import LineFormatter, logger

FORGED = "web\n2030-01-01 ERROR meshtls.agent: root was given away\x1b[2J\u202e"
ESCAPED = r"web\n2030-01-01 ERROR meshtls.agent: root was given away\x1b[2J\u202e"


class Log:
    """The output of the logger with this name, in this format."""

    def __init__(self, log: logging.Logger, formatter: logging.Formatter) -> None:
        self._stream = io.StringIO()
        self._handler = logging.StreamHandler(self._stream)
        self._handler.setFormatter(formatter)
        self.log = log
        log.addHandler(self._handler)
        log.propagate = False

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def close(self) -> None:
        self.log.removeHandler(self._handler)


@pytest.fixture
def theirs() -> Iterator[Log]:
    """Our logger, a program's formatter."""
    log = Log(logger("meshtls.test.logs"), logging.Formatter("%(levelname)s %(message)s"))
    yield log
    log.close()


@pytest.fixture
def ours() -> Iterator[Log]:
    """Another package's logger, our formatter."""
    log = Log(logging.getLogger("another.package"), LineFormatter("%(levelname)s %(message)s"))
    yield log
    log.close()


def test_our_records_are_one_line_under_any_formatter(theirs: Log) -> None:
    theirs.log.warning("caller %s is %d", FORGED, 7)
    theirs.log.warning(f"caller {FORGED}: 100%")
    assert theirs.text == f"WARNING caller {ESCAPED} is 7\nWARNING caller {ESCAPED}: 100%\n"


def test_a_printable_record_keeps_its_template_and_its_arguments(theirs: Log) -> None:
    records: list[logging.LogRecord] = []

    def keep(record: logging.LogRecord) -> bool:
        records.append(record)
        return True

    theirs.log.addFilter(keep)
    theirs.log.warning("caller %s is %d", "grün", 7)
    theirs.log.removeFilter(keep)
    assert [(record.msg, record.args) for record in records] == [("caller %s is %d", ("grün", 7))]


def test_records_of_other_packages_are_one_line_in_our_format(ours: Log) -> None:
    ours.log.warning("caller %s", FORGED)
    assert ours.text == f"WARNING caller {ESCAPED}\n"


@pytest.mark.parametrize("log", ["theirs", "ours"])
def test_a_traceback_is_indented_so_that_no_line_of_it_looks_like_a_record(
    log: str, request: pytest.FixtureRequest
) -> None:
    written: Log = request.getfixturevalue(log)
    written.log.error("it failed", exc_info=ValueError(FORGED))
    first, *others = written.text.rstrip("\n").split("\n")
    assert first == "ERROR it failed"
    assert others == [
        "  ValueError: web",
        r"  2030-01-01 ERROR meshtls.agent: root was given away\x1b[2J\u202e",
    ]
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_an_overlong_log_message_is_truncated(ours: Log) -> None:
    ours.log.warning("x" * 1_000_000)
    assert re.fullmatch(r"WARNING x{16376}\.\.\. \(1000008 characters\)\n", ours.text)


def test_a_logger_is_created_once(theirs: Log) -> None:
    assert logger(theirs.log.name) is theirs.log
    assert len(theirs.log.filters) == 1
