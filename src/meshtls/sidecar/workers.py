"""Worker processes that serve one sidecar: forked before the parent opens anything of the mesh, watched, replaced.

The parent holds no key, no socket and no event loop: each worker fetches its own identity and binds its own listening
sockets, among which the kernel distributes new connections (SO_REUSEPORT). A worker that dies loses only its own
connections. If a worker exits because the configuration is wrong, all stop: its replacement would exit too.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from meshtls.clock import Clock, SystemClock
from meshtls.errors import ConfigError
from meshtls.logs import logger

__all__ = ["Workers"]

log = logger("meshtls.sidecar")

_WATCHED = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP})
#: Seconds between two calls of ``reread``.
_LOOK = 0.3
#: A worker that lived less than this many seconds is replaced after a pause, which grows up to the longest.
_SOON = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
#: A worker's exit status where the configuration is wrong (EX_CONFIG), and then the parent's: the command line's own.
_CONFIG_IS_WRONG, _AS_WRONG_CONFIG = 78, 2
_FAILED = 1


@dataclass(slots=True)
class _Worker:
    """One worker's place: its present process, since when it runs, and when it is to be started again."""

    number: int
    pid: int = 0
    since: float = 0.0
    due: float = 0.0
    pause: float = _FIRST_PAUSE


class Workers:
    """Runs the processes that serve one configuration. ``serve`` runs in each of ``count`` processes, and is given a
    file descriptor that ends when the parent has gone, and the worker's number, from 1: one that takes the place of
    another has its number.

    ``reread`` is called about three times a second, and with True for each SIGHUP; if it returns True, the workers get
    SIGHUP. Call ``run`` in the main thread of a process without other threads and without a running loop.
    """

    def __init__(
        self,
        count: int,
        serve: Callable[[int, int], None],
        reread: Callable[[bool], bool] | None = None,
        clock: Clock = SystemClock(),
    ) -> None:
        self._clock = clock
        self._serve = serve
        self._reread = reread
        self._next_look = self._clock.monotonic() + _LOOK
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._stopping = False
        self._status = 0
        self._alive = (-1, -1)

    def run(self) -> int:
        """Start all, and replace those that end, until SIGTERM or SIGINT, which is passed on. Returns the exit status.

        A second signal is passed on, too.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        self._alive = os.pipe()
        try:
            while not self._stopping or self._living():
                self._fill()
                self._wait()
        finally:
            self._pass_on(signal.SIGTERM)
            for end in self._alive:
                os.close(end)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return self._status

    def _living(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.pid]

    def _fill(self) -> None:
        now = self._clock.monotonic()
        for worker in self._workers:
            if not self._stopping and not worker.pid and worker.due <= now:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:  # no memory or no room for processes now: the others go on
            self._put_off(worker, soon=True)
            log.error("worker %d could not be started, next try in %g s: %s", worker.number, worker.pause, error)  # noqa: TRY400
            return
        if not pid:
            self._run_child(worker.number)
        worker.pid, worker.since = pid, self._clock.monotonic()
        log.info("worker %d is process %d", worker.number, pid)

    def _run_child(self, number: int) -> None:
        """In the child: serve, and never return."""
        status = _FAILED
        try:
            os.setpgid(0, 0)  # a terminal's ^C is the parent's to pass on, once
            os.close(self._alive[1])
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it announces a configuration that is read later anyway
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
            self._serve(self._alive[0], number)
            status = 0
        except ConfigError as error:
            log.error("%s", error)  # noqa: TRY400  # the operator's to mend, in words made for that
            status = _CONFIG_IS_WRONG
        except BaseException:  # noqa: BLE001  # a process ends here, and its parent's frames must not run in it
            traceback.print_exc()
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _wait(self) -> None:
        """Until a signal, or until a worker or a look at the configuration is due."""
        due = [worker.due for worker in self._workers if not worker.pid and not self._stopping]
        if self._reread is not None and not self._stopping:
            due.append(self._next_look)
        got = (
            signal.sigtimedwait(_WATCHED, max(0.0, min(due) - self._clock.monotonic()))
            if due
            else signal.sigwait(_WATCHED)
        )
        number = got if isinstance(got, int) or got is None else got.si_signo
        if number in (signal.SIGTERM, signal.SIGINT):
            self._stopping = True
            self._pass_on(signal.SIGTERM)
        elif not self._stopping:
            self._look(asked=number == signal.SIGHUP)
        self._reap()

    def _look(self, *, asked: bool) -> None:
        now = self._clock.monotonic()
        if self._reread is None or not (asked or now >= self._next_look):
            return
        self._next_look = now + _LOOK
        if self._reread(asked):
            self._pass_on(signal.SIGHUP)

    def _pass_on(self, number: signal.Signals) -> None:
        for worker in self._living():
            with suppress(ProcessLookupError):
                os.kill(worker.pid, number)

    def _reap(self) -> None:
        """Note every worker that has ended. Signals of one kind are not counted, so all are looked at."""
        for worker in self._living():
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, status: int) -> None:
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        pid, worker.pid = worker.pid, 0
        if self._stopping:
            # A worker that was just starting had no handler yet.
            self._status = self._status or (0 if status in (0, -signal.SIGTERM) else _FAILED)
            log.info("worker %d, process %d, ended %s", worker.number, pid, how)
            return
        if status == _CONFIG_IS_WRONG:
            self._stopping, self._status = True, _AS_WRONG_CONFIG
            self._pass_on(signal.SIGTERM)
            return
        self._put_off(worker, soon=self._clock.monotonic() - worker.since <= _SOON)
        log.error("worker %d, process %d, ended %s; another takes its place", worker.number, pid, how)

    def _put_off(self, worker: _Worker, *, soon: bool) -> None:
        """Plan its next start, later each time that it ends ``soon`` after the one before."""
        worker.pause = min(2 * worker.pause, _LONGEST_PAUSE) if soon else _FIRST_PAUSE
        worker.due = self._clock.monotonic() + worker.pause

    def __repr__(self) -> str:
        return f"<Workers [{len(self._living())} of {len(self._workers)} alive]>"
