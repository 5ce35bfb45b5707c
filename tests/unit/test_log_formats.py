"""Lines of the log as JSON, their connection's ID, and levels that change while a process runs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextvars import copy_context
from dataclasses import dataclass

import pytest

from meshtls.logs import LogFormat, formatter, levels, logger, of_connection, set_configured_level, set_level

FORGED = 'x\n{"level": "ERROR"}\u202e'


@dataclass(eq=False)
class Known:
    connection_id: str


@pytest.fixture(params=LogFormat)
def form(request: pytest.FixtureRequest) -> LogFormat:
    found: LogFormat = request.param
    return found


@pytest.fixture
def lines(form: LogFormat) -> Iterator[io.StringIO]:
    stream, log = io.StringIO(), logger("meshtls.test.formats")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(form))
    log.addHandler(handler)
    log.propagate = False
    yield stream
    log.removeHandler(handler)


def test_a_record_is_one_line_and_has_its_connection_s_id_while_it_is_about_one(
    lines: io.StringIO, form: LogFormat
) -> None:
    log, known = logger("meshtls.test.formats"), Known("3f9c1a2b4d5e6f70")
    log.warning("before")
    with of_connection(known):
        log.warning("peer %s", FORGED)
    log.warning("after")
    before, about, after = lines.getvalue().splitlines()
    if form is LogFormat.CONSOLE:
        assert about.endswith(
            r'WARNING meshtls.test.formats: peer x\n{"level": "ERROR"}\u202e connection=3f9c1a2b4d5e6f70'
        )
        assert "connection=" not in before + after
    else:
        read = json.loads(about)
        assert (read["level"], read["connection_id"]) == ("WARNING", "3f9c1a2b4d5e6f70")
        assert read["message"] == r'peer x\n{"level": "ERROR"}\u202e'
        assert about.isprintable()
        assert "connection_id" not in json.loads(before) | json.loads(after)


def test_an_id_that_is_known_later_is_the_one_that_is_logged(lines: io.StringIO, form: LogFormat) -> None:
    log, known = logger("meshtls.test.formats"), Known("own")
    with of_connection(known):
        known.connection_id = "of-both-sides"
        log.warning("later")
    assert "of-both-sides" in lines.getvalue()


def test_a_connection_that_is_gone_is_not_kept_by_what_was_begun_for_it(lines: io.StringIO, form: LogFormat) -> None:
    log, known = logger("meshtls.test.formats"), Known("gone")
    with of_connection(known):
        context = copy_context()  # as a task or a timer does
    context.run(log.warning, "it lives")
    assert "gone" in lines.getvalue()
    lines.truncate(0)
    del known
    context.run(log.warning, "it has no ID any more")
    assert "gone" not in lines.getvalue()


def test_a_level_that_was_set_stays_until_the_file_says_another() -> None:
    before = logging.root.level
    try:
        set_configured_level("ERROR")
        set_level("", "DEBUG")
        set_configured_level("ERROR")  # a reload for another key
        assert levels()[""] == "DEBUG"
        set_configured_level("WARNING")
        assert levels()[""] == "WARNING"
    finally:
        logging.root.setLevel(before)


def test_a_logger_that_does_not_exist_is_refused_and_not_made() -> None:
    with pytest.raises(LookupError):
        set_level("nobody.logs.by.this", "DEBUG")
    assert "nobody.logs.by.this" not in logging.root.manager.loggerDict
