"""A sidecar's file read again while it serves: by one process, or by the parent of several, which read what that found
good.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol, Self

from meshtls.address import Address
from meshtls.cli.serving import log_changes
from meshtls.clock import SystemClock
from meshtls.config.document import read_text
from meshtls.errors import ConfigError
from meshtls.logs import logger
from meshtls.reloading import FileWatch, reload_on_change
from meshtls.sidecar.changes import Changes, in_force, summary
from meshtls.sidecar.config import parse_config, with_workers
from meshtls.sidecar.descriptors import make_room, sockets_beside_connections
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.settings import SidecarConfig
from meshtls.sidecar.sockets import listen

__all__ = ["ConfigFile", "ConfigSource", "SharedConfig", "keep_reloading"]

log = logger("meshtls.reload")


class ConfigSource(Protocol):
    """Where a sidecar's configuration comes from, the first time and later."""

    #: What changes by itself; one without files waits for SIGHUP alone.
    watch: FileWatch

    def load(self) -> SidecarConfig:
        """What is there now. Raises ConfigError."""

    def tell(self, differing: Changes) -> None:
        """Log what a reload has changed."""


class ConfigFile:
    """The file, read by one process, or by the parent of several. ``workers`` is the command line's.

    ``running`` is what is in force as far as this process knows.
    """

    def __init__(self, path: Path, workers: int | None) -> None:
        """Raises ConfigError."""
        self.watch = FileWatch([path], SystemClock())
        self._path = path
        self._workers = workers
        self.running = self.load()

    def load(self) -> SidecarConfig:
        """Read it, and make room for as many connections. Raises ConfigError."""
        config = self.parse(read_text(self._path))
        make_room(config.limits.connections, sockets_beside_connections(config))
        return config

    def parse(self, text: str) -> SidecarConfig:
        """Raises ConfigError."""
        return with_workers(parse_config(text, str(self._path)), self._workers)

    def read(self) -> str:
        """Its text. Raises ConfigError."""
        return read_text(self._path)

    def tell(self, differing: Changes) -> None:
        """What is in use now, and what is not."""
        log_changes(differing.taken, differing.restart, "no key has changed")
        _tell_ended(differing)


class SharedConfig:
    """The configuration of several worker processes, made before they are: ``with`` it around them.

    The parent calls ``reread``, and keeps what it found good where each worker reads it by ``load``. So all have the
    same one, also a worker that is made later, whatever becomes of the file.
    """

    def __init__(self, file: ConfigFile) -> None:
        """Raises ConfigError."""
        self.watch = FileWatch([], SystemClock())
        self._file = file
        self._kept = tempfile.TemporaryFile()  # noqa: SIM115  # closed by ``__exit__``
        text = file.read()
        self._running = file.parse(text)
        self._keep(text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._kept.close()

    def reread(self, asked: bool) -> bool:
        """In the parent: read the file where it has changed, or is to be read. True where the workers are to follow."""
        if asked:
            self._file.watch.look()
        elif not self._file.watch.changed():
            return False
        try:
            text = self._file.read()
            wanted = self._file.parse(text)
            make_room(wanted.limits.connections, sockets_beside_connections(wanted))
            self._try_to_listen(wanted)
        except ConfigError as error:
            log.error("%s; the configuration in use stays", error)  # noqa: TRY400  # the message says it all
            return False
        self._keep(text)
        self._file.tell(summary(self._running, wanted))
        self._running = in_force(self._running, wanted)
        return True

    def load(self) -> SidecarConfig:
        """In a worker: what the parent found good."""
        with self._locked(fcntl.LOCK_SH) as kept:
            text = os.pread(kept, os.fstat(kept).st_size, 0)
        return self._file.parse(text.decode())

    def tell(self, differing: Changes) -> None:
        """In a worker: the parent has told the rest."""
        _tell_ended(differing)

    def _try_to_listen(self, wanted: SidecarConfig) -> None:
        """A worker that could not would end, and all the others with it. Raises ConfigError."""
        known = set(_addresses(self._running).values())
        for key, address in _addresses(wanted).items():
            if address not in known:
                listen(address, f"{wanted.name}: {key}", shared=True).close()

    def _keep(self, text: str) -> None:
        with self._locked(fcntl.LOCK_EX) as kept:
            os.ftruncate(kept, 0)
            os.pwrite(kept, text.encode(), 0)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[int]:
        """The descriptor, whose offset all processes share: it is read and written by place."""
        kept = self._kept.fileno()
        fcntl.lockf(kept, kind)
        try:
            yield kept
        finally:
            fcntl.lockf(kept, fcntl.LOCK_UN)


def _addresses(config: SidecarConfig) -> dict[str, Address]:
    """Those of the listeners, by their keys."""
    inbound = {f"inbound[{at}].listen": one.listen for at, one in enumerate(config.inbound)}
    return inbound | {f"outbound[{at}].listen": one.listen for at, one in enumerate(config.outbound)}


def _tell_ended(differing: Changes) -> None:
    if differing.ended:
        log.info("%d live connections are forbidden now, and were ended", differing.ended)


async def keep_reloading(running: Sidecar, source: ConfigSource, hangup: asyncio.Event) -> NoReturn:
    """Hand each new configuration to the sidecar, until cancelled. An invalid one is logged, and changes nothing."""

    async def reload() -> None:
        wanted = source.load()
        source.tell(running.reload(wanted))
        logging.root.setLevel(wanted.log_level)
        for notice in wanted.notices:
            log.warning("%s", notice)

    await reload_on_change(source.watch, reload, hangup, SystemClock())
