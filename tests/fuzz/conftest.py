"""How many inputs a run of the fuzz targets has tried, in its last lines: by file, and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fuzz.running import inputs_tried

_PROPERTY = "fuzz inputs"
_tried: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _count_inputs(request: pytest.FixtureRequest) -> Iterator[None]:
    before = inputs_tried()
    yield
    request.node.user_properties.append((_PROPERTY, inputs_tried() - before))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """The reports of all workers come here."""
    if report.when == "teardown":
        file = report.nodeid.partition("::")[0].rpartition("/")[2]
        _tried[file] += sum(int(str(value)) for name, value in report.user_properties if name == _PROPERTY)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sums."""
    if not _tried.total():
        return
    terminalreporter.section("fuzzing")
    for file, count in sorted((+_tried).items()):
        terminalreporter.line(f"{file:<32}{count:>14,} inputs")
    terminalreporter.line(f"{'in all':<32}{_tried.total():>14,} inputs")
