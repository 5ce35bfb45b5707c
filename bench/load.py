"""The load generator: load.c, compiled at the start, or without a compiler the same in Python in two processes."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench.processes import started

__all__ = ["Generator", "Job", "Load", "LoadError", "LoadResult"]

_SOURCE = Path(__file__).with_name("load.c")
_PYTHON_PROCESSES = 2


class LoadError(Exception):
    """The load could not be completed: a proxy refused, reset or stalled a connection."""


class LoadResult(msgspec.Struct, frozen=True):
    """The work between "go" and the last response; with latencies if the job measures them."""

    units: int
    bytes: int
    seconds: float
    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One mode of the generator. ``units`` is divided among its processes, ``each`` is passed to every one."""

    mode: str
    connections: int
    units: int | None = None
    each: tuple[float, ...] = ()

    def split(self, parts: int) -> list[Job]:
        parts = min(parts, self.connections)
        return [
            Job(
                self.mode,
                _share(self.connections, parts, part),
                None if self.units is None else _share(self.units, parts, part),
                self.each,
            )
            for part in range(parts)
        ]

    def arguments(self, port: int) -> list[str]:
        units = [] if self.units is None else [self.units]
        return [self.mode, *map(str, (port, self.connections, *units, *self.each))]


class Load:
    """A job whose connections are open. Call ``go`` once."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]], log: Path) -> None:
        self._processes = processes
        self._log = log
        for process in processes:
            self._line(process)

    def go(self) -> LoadResult:
        """Run the job and return its result. Raises LoadError."""
        self.begin()
        return _merged([msgspec.json.decode(self._line(process), type=LoadResult) for process in self._processes])

    def begin(self) -> None:
        """Run in the background until this load is left."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.write("go\n")
                process.stdin.flush()

    def _line(self, process: subprocess.Popen[str]) -> str:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            raise LoadError(_last_line(self._log) or f"the load generator ended with status {process.wait()}")
        return line


class Generator:
    """Starts loads, and the server behind the proxies."""

    def __init__(self, argv: Sequence[str], processes: int, log: Path) -> None:
        self._argv = argv
        self._count = processes
        self._log = log

    @classmethod
    def build(cls, directory: Path, *, compiler: str | None = None) -> Generator:
        """Compile into ``directory`` with this compiler or the installed one."""
        found = compiler or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        log = directory / "load.log"
        if found is None:
            return cls.in_python(directory)
        binary = directory / "load"
        subprocess.run([found, "-O2", "-o", str(binary), str(_SOURCE)], check=True, timeout=120)
        return cls([str(binary)], 1, log)

    @classmethod
    def in_python(cls, directory: Path) -> Generator:
        """The generator that needs no compiler."""
        return cls([sys.executable, "-m", "bench.load_in_python"], _PYTHON_PROCESSES, directory / "load.log")

    @property
    def name(self) -> str:
        return "C" if self._count == 1 else f"Python, {self._count} processes"

    @contextmanager
    def server(self, port: int) -> Iterator[None]:
        """Run the server, which echoes and discards, on this port."""
        with self._opened([["serve", str(port)]]):
            yield

    @contextmanager
    def open(self, job: Job, port: int) -> Iterator[Load]:
        """Open the job's connections, each proven to reach the server. Raises LoadError."""
        with self._opened([part.arguments(port) for part in job.split(self._count)]) as load:
            yield load

    @contextmanager
    def _opened(self, arguments: Sequence[Sequence[str]]) -> Iterator[Load]:
        with ExitStack() as stack:
            processes = [
                stack.enter_context(started([*self._argv, *part], self._log, piped=True)) for part in arguments
            ]
            yield Load(processes, self._log)


def _share(total: int, parts: int, part: int) -> int:
    return total // parts + (part < total % parts)


def _merged(results: Sequence[LoadResult]) -> LoadResult:
    medians = [result.p50_ms for result in results if result.p50_ms is not None]
    tails = [result.p99_ms for result in results if result.p99_ms is not None]
    return LoadResult(
        units=sum(result.units for result in results),
        bytes=sum(result.bytes for result in results),
        seconds=max(result.seconds for result in results),
        p50_ms=statistics.median(medians) if medians else None,
        p99_ms=max(tails) if tails else None,
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else ""
