"""Runs many seeds, and tells the story of one that breaks an invariant."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from sqlalchemy import URL

from meshtls.server.store.database import Database
from meshtls.server.store.migrate import migrate
from tests.simulation.plants import PLANTS, planted
from tests.simulation.world import Run, World

__all__ = ["Simulation", "main", "simulation"]

_STORY_LINES = 60
_COLLECTED_EVERY = 25


class Simulation:
    """Runs seeds with stores in this directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._empty = directory / "empty.sqlite"
        self._runs = 0
        asyncio.run(_make(self._empty))
        # The first run of a process takes some steps more than a later one, for what libraries make once in a process.
        self.run(0)

    def run(self, seed: int, *, with_logs: bool = False) -> Run:
        """One seed. The same seed is the same run. ``with_logs``: the story has the log lines of the processes."""
        path = self._directory / f"{seed}.sqlite"
        shutil.copyfile(self._empty, path)
        gc.disable()  # what a killed process has left must not run its clean-up meanwhile
        try:
            with _silent():
                world = World(seed, path)
                with _logging_to(world) if with_logs else contextlib.nullcontext():
                    made = world.run()
        finally:
            for one in self._directory.glob(f"{seed}.sqlite*"):
                one.unlink()
            self._runs += 1
            if self._runs % _COLLECTED_EVERY == 0:
                with _silent():
                    gc.collect()
        return made


@contextlib.contextmanager
def simulation() -> Iterator[Simulation]:
    """A Simulation in a directory of its own, in memory where the system has such."""
    memory = Path("/dev/shm")  # noqa: S108
    directory = Path(tempfile.mkdtemp(prefix="meshtls-sim-", dir=memory if memory.is_dir() else None))
    level = logging.getLogger("meshtls").level
    logging.getLogger("meshtls").setLevel(logging.CRITICAL + 1)
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of connections that killed processes have left open
            yield Simulation(directory)
    finally:
        with _silent():
            gc.collect()
        gc.enable()
        logging.getLogger("meshtls").setLevel(level)
        shutil.rmtree(directory)


@contextlib.contextmanager
def _logging_to(world: World) -> Iterator[None]:
    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            world.tell(world.speaker, f"  {record.levelname.lower()}: {record.getMessage()}")

    logs, teller = logging.getLogger("meshtls"), Teller()
    level = logs.level
    logs.addHandler(teller)
    logs.setLevel(logging.INFO)
    try:
        yield
    finally:
        logs.setLevel(level)
        logs.removeHandler(teller)


async def _make(path: Path) -> None:
    database = Database(URL.create("sqlite+aiosqlite", database=str(path)))
    try:
        await migrate(database)
    finally:
        await database.close()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What is left of killed processes complains when it is collected."""
    kept, sys.unraisablehook = sys.unraisablehook, lambda _told: None
    try:
        yield
    finally:
        sys.unraisablehook = kept


def story_of(run: Run, *, whole: bool = False) -> str:
    """The run as text for people."""
    lines = run.story if whole else run.story[-_STORY_LINES:]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many seeds to run (300)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (1)")
    parser.add_argument("--seed", type=int, help="run this seed alone, and print its story")
    parser.add_argument("--plant", choices=[*PLANTS], help="plant this bug in the program, which a seed should find")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    args = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets is part of a run
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606
    if args.seed is not None:
        with simulation() as simulated, _maybe_planted(args.plant):
            run = simulated.run(args.seed, with_logs=True)
        print(story_of(run, whole=True))
        return 1 if run.violation else 0
    started, seeds = time.monotonic(), range(args.first, args.first + args.seeds)
    bad = [run for run in _runs(seeds, args.jobs, args.plant) if run.violation]
    for run in bad[:5]:
        print(f"seed {run.seed}: {run.violation}")
    if bad:
        print(story_of(bad[0]))
        print(f"the whole story: python -m tests.simulation --seed {bad[0].seed}")
    seconds = time.monotonic() - started
    print(f"{len(seeds)} seeds, {len(bad)} failed, in {seconds:.0f} s: {len(seeds) / seconds:.1f} seeds/s")
    return 1 if bad else 0


def _runs(seeds: range, jobs: int, plant: str | None) -> Iterator[Run]:
    if jobs == 1:
        with simulation() as simulated, _maybe_planted(plant):
            yield from map(simulated.run, seeds)
        return
    parts = [seeds[start : start + 50] for start in range(0, len(seeds), 50)]
    with ProcessPoolExecutor(jobs) as pool:
        for runs in pool.map(partial(_part, plant=plant), parts):
            yield from runs


def _part(seeds: range, plant: str | None) -> list[Run]:
    with simulation() as simulated, _maybe_planted(plant):
        return list(map(simulated.run, seeds))


def _maybe_planted(plant: str | None) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if plant is None else planted(plant)
