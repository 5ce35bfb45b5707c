"""What a breakage is: how the mesh is broken and mended, and the words that each surface then has for the cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from meshtls.observe.events import Outcome
from meshtls.observe.metrics.workload_api import WORKLOAD_API_FAILURES
from tests.e2e.day_in_the_life.mesh import Mesh

__all__ = ["Breakage", "Sample", "has_words", "option_of"]

#: Breaks the mesh when it is entered, and mends it when it is left.
Break = Callable[[Mesh], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True)
class Sample:
    """A metric of a program while the mesh is broken, and another value while it is not.

    ``value`` is None for a counter, which grows while it is broken. ``labels`` are part of those of the sample.
    """

    name: str
    value: float | None
    program: str
    labels: str = ""

    @property
    def shown(self) -> str:
        """For people."""
        value = "grows" if self.value is None else f"is {self.value:g}"
        return f"`{self.name}{f'{{{self.labels}}}' if self.labels else ''}` {value}"


@dataclass(frozen=True, slots=True)
class Breakage:
    """One row.

    - ``symptom``: what a user sees. ``cause``: the words for it, on every surface; ``…`` stands for what differs.
    - ``at``: the program whose log, file and ``check`` name the cause.
    - ``outcome``: of the connection that fails, which its access log, its metric, ``explain``, ``check`` and the
      dashboard name. None
      where no connection fails: then the cause is in the log of the program.
    - ``checked``: the program whose file ``meshtls check`` is given, if it is not ``at``.
    - ``page``: of the dashboard, where it names the cause; Connections where one fails.
    - ``page_words``: instead of the cause, where the page knows only a consequence of it.
    - ``metric``: beside the counter of the outcome. ``measured``: instead of one, where none can be. ``needs``: a
      command, or the right to mount, without which the test can't break it.
    """

    name: str
    symptom: str
    cause: str
    at: str
    broken: Break
    outcome: Outcome | None = None
    checked: str = ""
    metric: Sample | None = None
    measured: str = ""
    needs: str = ""
    page: str = "Processes"
    page_words: str = ""

    @property
    def counted_as(self) -> str:
        """What counts it, by which the log and ``check`` name it: an outcome, or the reason of the Workload API."""
        if self.outcome is not None:
            return self.outcome.name
        if self.metric is None or self.metric.name != WORKLOAD_API_FAILURES.name:
            return ""
        return self.metric.labels.removeprefix('reason="').removesuffix('"')

    @property
    def words(self) -> str:
        """The words of the log and of ``check``."""
        return f"{self.counted_as}: …{self.cause}" if self.counted_as else self.cause

    @property
    def shown(self) -> str:
        """The page of the dashboard that names it, for people."""
        if self.outcome is not None:
            return "Connections"
        return f"{self.page}: ``{self.page_words}``" if self.page_words else self.page

    @property
    def metrics(self) -> str:
        """What a scrape has of it, for people."""
        of_outcome = f'`outcome="{self.outcome.name}"`' if self.outcome is not None else ""
        return ", ".join(filter(None, (of_outcome, self.metric.shown if self.metric else "", self.measured)))

    @property
    def commands(self) -> tuple[str, ...]:
        """What shows the cause, for people."""
        check = f"meshtls check {option_of(self.checked or self.at)} FILE"
        return (check,) if self.outcome is None else ("meshtls explain connection ID", check)


def option_of(program: str) -> str:
    """The option by which ``meshtls check`` is given the file of this program."""
    return f"--{program if program in ('server', 'agent') else 'sidecar'}"


def has_words(text: str, cause: str) -> bool:
    """Whether these words, with anything for each ``…``, are in the text, however it is wrapped."""
    pattern = ".*?".join(re.escape(piece) for piece in cause.split("…"))
    return re.search(pattern, text, re.DOTALL) is not None
