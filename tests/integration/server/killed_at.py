"""A server that kills itself at one step, while it is asked to mint; a ``tests.support.forking`` runs it.

Prints the serials of the SVIDs that were received, as far as it comes.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import signal
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from meshtls.server.config import load_config
from meshtls.server.run import running_server
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial
from tests.integration.server.test_crash import administered
from tests.support.server import TD, new_csr

_MOST = 200


def arm(step: str, when: str, calls: int, report: Callable[[], None]) -> None:
    """Replace the function by one that ends the process at its passage number ``calls``, counted from 0."""
    owner: Any = None
    path, name = step.rsplit(".", 1)
    try:
        owner = importlib.import_module(path)
    except ModuleNotFoundError:
        module, kind = path.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), kind)
    real = getattr(owner, name)
    left = [calls]

    def passage() -> None:
        left[0] -= 1
        if left[0] < 0:
            report()
            os.kill(os.getpid(), signal.SIGKILL)

    @wraps(real)
    def plain(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            passage()
        result = real(*args, **kwargs)
        if when == "after":
            passage()
        return result

    @wraps(real)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            passage()
        result = await real(*args, **kwargs)
        if when == "after":
            passage()
        return result

    setattr(owner, name, awaited if inspect.iscoroutinefunction(real) else plain)


async def main(step: str, when: str, calls: int, config: Path) -> None:
    received: list[str] = []

    def report() -> None:
        print(json.dumps(received), flush=True)

    arm(step, when, calls, report)
    async with running_server(load_config(config)) as running:
        with administered(running.socket_path) as admin:
            for _ in range(_MOST):
                chain = await admin.mint_x509(SpiffeId(TD, "/web"), new_csr())
                received.append(format_serial(chain[0]))
                await asyncio.sleep(0.05)


def main_of(arguments: Sequence[str]) -> None:
    step, when, calls, config = arguments
    asyncio.run(main(step, when, int(calls), Path(config)))
