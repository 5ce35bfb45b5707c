"""Hooks for all tests: a skip fails if MESHTLS_REQUIRE is "all". Property tests have no deadline, since a busy machine
may be slow, and the same examples each time: a failure has to be caused by a change. ``make fuzz`` looks for new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests.support.require import is_fault
from tests.support.transports import name_openers

_R = TypeVar("_R", pytest.TestReport, pytest.CollectReport)

settings.register_profile("meshtls", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("meshtls")
name_openers()


@pytest.fixture(autouse=True)
def _levels_of_the_logs() -> Generator[None]:
    """Restore them: a command that a test runs in this process may set them."""
    before = {one: one.level for one in _loggers()}
    yield
    for one in _loggers():
        one.setLevel(before.get(one, logging.NOTSET))


def _loggers() -> list[logging.Logger]:
    ours = (one for name, one in logging.root.manager.loggerDict.items() if name.startswith("meshtls"))
    return [logging.root, *(one for one in ours if isinstance(one, logging.Logger))]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _no_skip((yield))


def _no_skip(report: _R) -> _R:
    """Turn a skip into a failure, also one that was not made by ``require``."""
    why = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if report.outcome == "skipped" and is_fault(why):
        report.outcome, report.longrepr = "failed", f"MESHTLS_REQUIRE asks for all: {why}"
    return report
