"""A node whose clock fails once: ``python -m tests.integration.node.broken_node now|monotonic``.

It is a separate process, so that the state after such a failure does not affect other tests.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import datetime

from meshtls.cli.options import log_to_stderr
from meshtls.clock import SystemClock
from meshtls.node.run import run_node
from meshtls.spiffeid import TrustDomain


class BrokenClock(SystemClock):
    """Fails the first time that it is asked for ``what``."""

    def __init__(self, what: str) -> None:
        self._left = [what]

    def now(self) -> datetime:
        self._fail("now")
        return super().now()

    def monotonic(self) -> float:
        self._fail("monotonic")
        return super().monotonic()

    def _fail(self, asked: str) -> None:
        if asked in self._left:
            self._left.remove(asked)
            raise RuntimeError(f"the clock has no {asked}")


if __name__ == "__main__":
    log_to_stderr(logging.ERROR)
    asyncio.run(run_node(0, 1, TrustDomain("example.com"), clock=BrokenClock(sys.argv[1])))
