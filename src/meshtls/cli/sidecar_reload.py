"""A sidecar's file read again while it serves: by one process, or by the parent of several, which read what that found
good.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol, Self

import msgspec

from meshtls.address import Address
from meshtls.cli.serving import log_changes
from meshtls.clock import SystemClock
from meshtls.config.document import read_text
from meshtls.errors import ConfigError
from meshtls.logs import logger, set_configured_level
from meshtls.policy.files import documents_of, read_texts, watched_files
from meshtls.policy.istio.model import Documents
from meshtls.reloading import FileWatch, reload_on_change
from meshtls.sidecar.changes import Changes, in_force, summary
from meshtls.sidecar.config import parse_config, with_workers
from meshtls.sidecar.descriptors import make_room, sockets_beside_connections
from meshtls.sidecar.service import Sidecar
from meshtls.sidecar.services import check_services
from meshtls.sidecar.settings import SidecarConfig
from meshtls.sidecar.sockets import listen
from meshtls.sidecar.view import compiled_rules

__all__ = ["ConfigFile", "ConfigSource", "SharedConfig", "keep_reloading"]

log = logger("meshtls.reload")

#: Seconds between two looks at the files. Two looks in a row have to see the same: a change is live within a second.
_INTERVAL = 0.3
#: Names and texts of files.
Texts = list[tuple[str, str]]


class ConfigSource(Protocol):
    """Where a sidecar's configuration comes from, the first time and later, then by ``load`` in a thread."""

    #: What changes by itself; one without files waits for SIGHUP alone.
    watch: FileWatch

    @property
    def not_taken(self) -> str:
        """Why another process did not take the latest configuration; empty if it did."""

    def load(self) -> SidecarConfig:
        """What is there now. Raises ConfigError."""

    def tell(self, differing: Changes) -> None:
        """Log what a reload has changed."""


class ConfigFile:
    """The file and its policies, read by one process, or by the parent of several. ``workers`` is the command line's.

    - ``running``: what is in force as far as this process knows.
    - ``policies``: the policies' texts, by file, as they were read most recently.
    """

    def __init__(self, path: Path, workers: int | None) -> None:
        """Raises ConfigError."""
        self._path = path
        self._workers = workers
        self._paths: tuple[Path, ...] = ()
        self.policies: Texts = []
        self.watch = FileWatch(self._files, SystemClock())
        self.running = self.load()

    def load(self) -> SidecarConfig:
        """Read it, and make room for as many connections. Raises ConfigError."""
        config = self.parse(self.read())
        make_room(config.limits.connections, sockets_beside_connections(config))
        return config

    def parse(self, text: str) -> SidecarConfig:
        """Parse the sidecar's own file, and read the policies that it names. Raises ConfigError."""
        return with_workers(parse_config(text, str(self._path), self._read_policies), self._workers)

    def parse_all(self, text: str, policies: Texts) -> SidecarConfig:
        """Parse what was read before. Raises ConfigError."""

        def documents(paths: Sequence[Path]) -> Documents:
            return documents_of(policies, paths)

        return with_workers(parse_config(text, str(self._path), documents), self._workers)

    def read(self) -> str:
        """Its text. Raises ConfigError."""
        return read_text(self._path)

    @property
    def not_taken(self) -> str:
        """Empty: this process reads the file itself."""
        return ""

    def tell(self, differing: Changes) -> None:
        """What is in use now, and what is not."""
        log_changes(differing.taken, differing.restart, "no key has changed")
        _tell_ended(differing)

    def _read_policies(self, paths: Sequence[Path]) -> Documents:
        if tuple(paths) != self._paths:
            # Before they are read, so that no change of one is missed. The next look compares with this.
            self._paths = tuple(paths)
            self.watch.relist()
        problems: list[str] = []
        self.policies = read_texts(paths, problems)
        return documents_of(self.policies, paths, problems)

    def _files(self) -> list[Path]:
        """What is watched. A path that can't be listed is reported when it is read."""
        return [self._path, *watched_files(self._paths)]


class Kept(msgspec.Struct, frozen=True):
    """What the parent of several workers keeps for them: texts that are good, and why the latest ones are not."""

    text: str
    policies: Texts = []
    not_taken: str = ""


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
        check_services(self._running)
        self._good = Kept(text, file.policies)
        self._keep(self._good)

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
            compiled_rules(wanted)  # for what it raises: the workers compile for themselves
            check_services(wanted)
            self._try_to_listen(wanted)
        except ConfigError as error:
            log.error("%s; the configuration in use stays", error)  # noqa: TRY400  # the message says it all
            self._keep(msgspec.structs.replace(self._good, not_taken="; ".join(error.problems)))
            return True  # for the workers' /ready
        self._good = Kept(text, self._file.policies)
        self._keep(self._good)
        self._file.tell(summary(self._running, wanted))
        self._running = in_force(self._running, wanted)
        return True

    def load(self) -> SidecarConfig:
        """In a worker: what the parent found good."""
        kept = self._take()
        return self._file.parse_all(kept.text, kept.policies)

    @property
    def not_taken(self) -> str:
        """In a worker: why the parent did not take the latest configuration; empty if it did."""
        return self._take().not_taken

    def _take(self) -> Kept:
        with self._locked(fcntl.LOCK_SH) as kept:
            return msgspec.json.decode(os.pread(kept, os.fstat(kept).st_size, 0), type=Kept)

    def tell(self, differing: Changes) -> None:
        """In a worker: the parent has told the rest."""
        _tell_ended(differing)

    def _try_to_listen(self, wanted: SidecarConfig) -> None:
        """A worker that could not would end, and all the others with it. Raises ConfigError."""
        known = set(_addresses(self._running).values())
        for key, address in _addresses(wanted).items():
            if address not in known:
                listen(address, f"{wanted.name}: {key}", shared=True).close()

    def _keep(self, given: Kept) -> None:
        with self._locked(fcntl.LOCK_EX) as kept:
            os.ftruncate(kept, 0)
            content = memoryview(msgspec.json.encode(given))
            at = 0
            while at < len(content):
                at += os.pwrite(kept, content[at:], at)

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
    """The addresses of the listeners, by their keys."""
    inbound = {f"inbound[{at}].listen": one.listen for at, one in enumerate(config.inbound)}
    return inbound | {f"outbound[{at}].listen": one.listen for at, one in enumerate(config.outbound)}


def _tell_ended(differing: Changes) -> None:
    if differing.ended:
        what = "1 live connection is" if differing.ended == 1 else f"{differing.ended} live connections are"
        log.info("%s forbidden now, and ended", what)


async def keep_reloading(running: Sidecar, source: ConfigSource, hangup: asyncio.Event) -> NoReturn:
    """Hand each new configuration to the sidecar, until cancelled. An invalid one is logged, and changes nothing.

    One is read, compiled and taken at a time, so the newest is taken last. A cancelled one is never taken.
    """

    async def reload() -> None:
        gc.disable()  # what is read stays: to search it for garbage again and again would hold up the loop
        try:
            given = await running.prepare(source.load)  # a change that comes meanwhile is the next one
        finally:
            gc.enable()
        wanted = given.wanted
        source.tell(running.apply_prepared(given))
        set_configured_level(wanted.log_level)
        for notice in wanted.notices:
            log.warning("%s", notice)

    def refused(error: ConfigError | None) -> None:
        running.note_reload(source.not_taken if error is None else "; ".join(error.problems))

    await reload_on_change(source.watch, reload, hangup, SystemClock(), interval=_INTERVAL, refused=refused)
