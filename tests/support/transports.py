"""Makes the repr of an asyncio transport name the test that opened it.

A transport that is never closed is reported when the garbage collector finds it, usually in a later test. The
ResourceWarning shows the transport's repr, and with it the test that opened it.
"""

from __future__ import annotations

import os
from asyncio import selector_events
from typing import Any

__all__ = ["name_openers"]


def name_openers() -> None:
    """From now on, for all transports of asyncio's own loop."""
    transport: Any = getattr(selector_events, "_SelectorTransport")  # noqa: B009  # it has no public name
    init, show = transport.__init__, transport.__repr__

    def remember(self: Any, *args: Any, **others: Any) -> None:
        self._opened_in = os.environ.get("PYTEST_CURRENT_TEST", "no test")
        init(self, *args, **others)

    def name(self: Any) -> str:
        return f"{show(self)} opened in {getattr(self, '_opened_in', 'no test')}"

    transport.__init__, transport.__repr__ = remember, name
