"""What the verbs that serve have in common: the end by a signal, reloading, ``validate`` and ``healthcheck``.

The process always ends. What it waits for at its end may never happen: a name service that hangs blocks a thread that
the event loop joins, and a full disk or a lost mount blocks a database. So the first signal also starts a deadline, and
the second signal ends the process at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, Protocol, TypeVar

from meshtls.cli.options import log_to_stderr
from meshtls.cli.output import Output, Record, tell
from meshtls.clock import SystemClock
from meshtls.config.changes import Changes
from meshtls.logs import LogFormat, formatter, logger, set_configured_level
from meshtls.observe.readiness import Readiness
from meshtls.reloading import reload_on_change
from meshtls.workload.background import in_background

__all__ = [
    "GRACE",
    "end_within",
    "keep_reloading",
    "log_as_configured",
    "log_changes",
    "run_until_stopped",
    "stop_signal",
    "tell_health",
    "tell_serving_line",
    "tell_valid",
]

log = logger("meshtls.reload")
_serving = logger("meshtls.serving")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Seconds from a signal to the forced end, less than the 10 that Docker waits.
GRACE = 8.0


class _Config(Protocol):
    @property
    def log_level(self) -> str: ...

    @property
    def log_format(self) -> LogFormat: ...

    @property
    def notices(self) -> tuple[str, ...]: ...


C = TypeVar("C", bound=_Config)


def log_as_configured(config: _Config) -> None:
    """Log on standard error from the level of the configuration on."""
    log_to_stderr(logging.getLevelNamesMapping()[config.log_level], config.log_format)
    set_configured_level(config.log_level)


def tell_serving_line(text: str, config: _Config) -> None:
    """Print this on standard error, beside the log: as a record of it where its lines are JSON, whatever its level."""
    if config.log_format is LogFormat.JSON:
        record = logging.LogRecord(_serving.name, logging.INFO, "", 0, text, None, None)
        tell(formatter(LogFormat.JSON).format(record), err=True)
    else:
        tell(text, err=True)


@contextmanager
def stop_signal(grace: float = GRACE) -> Iterator[asyncio.Event]:
    """The event that SIGTERM or SIGINT sets while the body runs.

    The process then has ``grace`` seconds to end. A second signal ends it at once. Main thread only.
    """
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stopped.is_set():
            os._exit(128 + number)
        stopped.set()
        end_within(grace, number)

    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stopped
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


async def run_until_stopped(work: Coroutine[None, None, None], name: str) -> None:
    """Run ``work`` until SIGTERM or SIGINT. Raises, in a group, what the work raises."""
    with stop_signal() as stopped:
        async with in_background(work, name):
            await stopped.wait()


def end_within(seconds: float, number: signal.Signals) -> None:
    """End the process after this time if it still runs, with the exit code of a process that this signal ended."""

    def end() -> None:
        tell(f"meshtls: not stopped within {seconds:g} s of {number.name}: exiting", err=True)
        os._exit(128 + number)

    deadline = threading.Timer(seconds, end)
    deadline.daemon = True  # Python does not wait for it at exit
    deadline.start()


async def keep_reloading(
    files: Iterable[Path], load: Callable[[], C], apply: Callable[[C], Changes], hangup: asyncio.Event
) -> NoReturn:
    """Load and apply the configuration at each SIGHUP (``hangup``) and each change of a file, until cancelled.

    ``load`` may raise ConfigError, and so may ``apply`` before it has changed anything. The error is logged, and the
    running configuration stays in use.
    """

    async def reload() -> None:
        wanted = await asyncio.to_thread(load)
        changes = apply(wanted)
        set_configured_level(wanted.log_level)
        for notice in wanted.notices:
            log.warning("%s", notice)
        unchanged = "no key has changed; the files that the configuration names were read again"
        log_changes(changes.taken, changes.restart, unchanged)

    await reload_on_change(files, reload, hangup, SystemClock())


def log_changes(taken: Sequence[str], restart: Sequence[str], unchanged: str) -> None:
    """What a reload did: the keys in use now, and those that need a restart; ``unchanged`` if there are neither."""
    if taken:
        log.info("in use from now on: %s", ", ".join(taken))
    if restart:
        log.warning("changed, and in use after a restart only: %s", ", ".join(restart))
    if not taken and not restart:
        log.info("%s", unchanged)


def tell_valid(
    out: Output, file: Path, makes: str, does: Iterable[str], notices: Sequence[str], record: Record
) -> None:
    """The answer of ``validate``: notices on the file, what it configures (``makes``), and a line for each effect.

    ``record`` is the same for programs.
    """
    told = [f"{file}: {len(notices)} notice{'s' * (len(notices) != 1)}", *(f"  {one}" for one in notices)]
    out.record(record, "\n".join([*(told if notices else ()), f"{file}: {makes}", *(f"  {one}" for one in does)]))


def tell_health(out: Output, state: Readiness) -> int:
    """The answer of ``healthcheck``: ready and any warning, or the reason why not. Returns the exit code."""
    record = {"ready": state.ready, "waiting_for": "" if state.ready else state.text}
    if state.ready and state.text:
        record["warning"] = state.text
    ready = f"ready; {state.text}" if state.text else "ready"
    out.record(record, ready if state.ready else f"not ready: {state.text}")
    return 0 if state.ready else 1
