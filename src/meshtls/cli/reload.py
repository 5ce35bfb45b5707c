"""SIGHUP and a changed file while a verb serves: what a running process can take is put to work, the rest is told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from meshtls.clock import SystemClock
from meshtls.config.changes import Changes
from meshtls.logs import logger
from meshtls.reloading import reload_on_change

__all__ = ["keep_reloading"]

log = logger("meshtls.reload")


class _Config(Protocol):
    @property
    def log_level(self) -> str: ...

    @property
    def notices(self) -> tuple[str, ...]: ...


C = TypeVar("C", bound=_Config)


async def keep_reloading(
    files: Iterable[Path], load: Callable[[], C], apply: Callable[[C], Changes], hangup: asyncio.Event
) -> NoReturn:
    """Load and apply the configuration again at each SIGHUP (``hangup``) and each change of a file, until cancelled.

    ``load`` may raise ConfigError, and ``apply`` too, before it has changed anything: that is logged, and all stays.
    """

    async def reload() -> None:
        wanted = await asyncio.to_thread(load)
        changes = apply(wanted)
        logging.root.setLevel(wanted.log_level)
        for notice in wanted.notices:
            log.warning("%s", notice)
        _tell(changes)

    await reload_on_change(files, reload, hangup, SystemClock())


def _tell(changes: Changes) -> None:
    if changes.taken:
        log.info("in use from now on: %s", ", ".join(changes.taken))
    if changes.restart:
        log.warning("changed, and in use after a restart only: %s", ", ".join(changes.restart))
    if not changes.taken and not changes.restart:
        log.info("no key has changed; the files that it names were read again")
