"""Asks the processes of a mesh again and again, and follows their events. One that fails is shown so, and no more.

Bounded: few processes are asked at once, one process is asked for at most a fifth of the time, the events of a process
that is too fast are dropped there, which it counts, and what one process says is refused where it is too large.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from meshtls.admin.asking import Interface, ask, followed
from meshtls.clock import Clock, SystemClock
from meshtls.dashboard.governing import ask_server
from meshtls.dashboard.model import PAGES_OF, Kind, Model
from meshtls.dashboard.reading import connections_of, event_of, page_of, size_of
from meshtls.dashboard.records import Live
from meshtls.errors import ConfigError, MeshtlsError, NotFoundError, RequestError
from meshtls.logs import logger
from meshtls.workload.background import in_background

__all__ = ["Collector"]

log = logger("meshtls.dashboard")

_AT_ONCE = 8
#: Of the time that a look at a process takes, so many times longer is the pause after it, at least.
_PAUSES = 4.0
_SERVER_SECONDS = 10.0
_MOST_ENDED, _MOST_LIVE = "2000", "10000"
#: Bytes that the pages of one process and its live connections take (``size_of``).
_MOST_BYTES = 16 << 20
#: What the other side, or the way to it, can cause. ``reading`` raises ValueError.
_FAILURES = (MeshtlsError, OSError, ValueError)


class Collector:
    """Follows the processes of a mesh. ``async with collector.running()`` keeps ``model`` current; ``act`` has a
    process do something.
    """

    def __init__(
        self,
        interfaces: Sequence[Interface],
        *,
        server: Path | None = None,
        interval: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        """``server``: the admin socket of the server's API. ``interval``: seconds between two looks at a process."""
        self._interfaces = {one.name: one for one in interfaces}
        self._server = server
        self._interval = interval
        self._clock = clock or SystemClock()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._news = asyncio.Event()
        self._soon = {name: asyncio.Event() for name in self._interfaces}
        self.model = Model(self._interfaces)

    async def changed(self) -> None:
        """Wait until the model may have changed."""
        await self._news.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Collector]:
        async with in_background(self._run(), "dashboard collector"):
            yield self

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for one in self._interfaces.values():
                tasks.create_task(self._look_again(one))
                tasks.create_task(self._follow_again(one))
            if self._server is not None:
                tasks.create_task(self._govern(self._server))

    async def act(self, address: str, path: str, words: dict[str, str]) -> dict[str, object]:
        """POST to a process, which logs it. Raises NotFoundError, RequestError and ConfigError."""
        at = self._interfaces.get(address)
        if at is None:
            raise NotFoundError(f"{address}: the dashboard was not told of this process")
        log.warning("dashboard: %s %s, by a browser with the token", address, path)
        answer = await ask(at, path, words, "POST")
        self._soon[address].set()
        return answer

    async def _look_again(self, at: Interface) -> None:
        while True:
            began = self._clock.monotonic()
            try:
                async with self._slots:
                    began = self._clock.monotonic()
                    await self._look(at)
            except _FAILURES as error:
                self.model.failed(at.name, _why(error))
            self._tell()
            took = self._clock.monotonic() - began
            self._soon[at.name].clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._interval, _PAUSES * took)):
                    await self._soon[at.name].wait()

    async def _look(self, at: Interface) -> None:
        info = page_of("/server_info", await ask(at, "/server_info"))
        kind = Kind(info["kind"])
        pages = {}
        for path in PAGES_OF[kind]:
            with contextlib.suppress(RequestError):  # a process of an earlier version has no such page
                pages[path] = page_of(path, await ask(at, path))
        live: list[Live] = []
        if kind is Kind.SIDECAR:
            asked = {"state": "live", "limit": _MOST_LIVE}
            live = connections_of(await ask(at, "/connections", asked)).get("live", [])
        size = size_of(pages) + size_of(live)
        if size > _MOST_BYTES:
            raise ConfigError(f"{at.name}: wanted pages of at most {_MOST_BYTES} bytes together, got {size}")
        self.model.answered(at.name, kind, info, pages, self._clock.now())
        if kind is Kind.SIDECAR:
            self.model.live(at.name, live)

    async def _follow_again(self, at: Interface) -> None:
        while True:
            # What it is, it says in the first look.
            if self.model.processes[at.name].kind is Kind.SIDECAR:
                try:
                    await self._follow(at)
                    self.model.untold(at.name, "the process ended its stream of events")
                except _FAILURES as error:
                    self.model.untold(at.name, _why(error))
                self._tell()
            await self._clock.sleep(min(self._interval, 1.0))

    async def _follow(self, at: Interface) -> None:
        async with aclosing(followed(at, {})) as events:
            async for event in events:
                if event.get("event") == "following":
                    # Only now, so that nothing is missed in between.
                    self.model.untold(at.name, "")
                    await self._look_back(at)
                self.model.event(at.name, event_of(event))
                self._tell()

    async def _look_back(self, at: Interface) -> None:
        """Take what ended before it was followed."""
        asked = {"state": "ended", "limit": _MOST_ENDED, "requests": "all"}
        found = connections_of(await ask(at, "/connections", asked))
        self.model.ended(at.name, reversed(found.get("ended", [])))
        self.model.requests(at.name, reversed(found.get("requests", [])))  # none of a process of an earlier version

    async def _govern(self, server: Path) -> None:
        while True:
            try:
                async with asyncio.timeout(_SERVER_SECONDS):
                    self.model.governed(await ask_server(server))
            except _FAILURES as error:
                self.model.governed({"error": f"{server}: {_why(error)}"})
            self._tell()
            await self._clock.sleep(_SERVER_SECONDS)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _why(error: BaseException) -> str:
    if isinstance(error, MeshtlsError):
        return str(error)
    return str(ConfigError(f"wanted an answer of meshtls, got something else: {type(error).__name__} {error}"))
