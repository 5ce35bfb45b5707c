"""Runs the tests of each mutant, on a copy of the package. ``python -m tests.mutants.run --help``.

A mutant is killed when a test fails or takes too long, and survives when all pass. Exit status 1: a mutant survived for
which ``targets.EQUIVALENT`` has no reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.edits import Mutant, mutants_of
from tests.mutants.targets import EQUIVALENT, PACKAGE, TARGETS, Target

__all__ = ["main"]

_ROOT = Path(__file__).parents[2]
#: Timeout of one test in seconds; a mutant whose test hangs is killed by that.
_A_TEST = 150
#: How much longer than the unchanged code a mutant's tests may take: a factor, and seconds on top.
_TIMES, _BESIDE = 4, 60


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants; returns the exit status."""
    parser = argparse.ArgumentParser(description="Mutation tests of the code that decides who may talk.")
    parser.add_argument("files", nargs="*", help="only these, such as sidecar/registry.py")
    parser.add_argument("--like", default="", help="only mutants with this text in their name")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print the mutants, and run none")
    args = parser.parse_args(arguments)
    unknown = set(args.files) - {target.file for target in TARGETS}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: wanted one of {', '.join(target.file for target in TARGETS)}")
    survived = 0
    for target in TARGETS:
        if not args.files or target.file in args.files:
            survived += _run_target(target, args.like, args.jobs, only_list=args.list)
    return 1 if survived else 0


def _run_target(target: Target, like: str, jobs: int, *, only_list: bool) -> int:
    mutants = [one for one in mutants_of((PACKAGE / target.file).read_text("utf-8")) if like in one.name]
    reasons = EQUIVALENT.get(target.file, {})
    if only_list:
        for one in mutants:
            print(f"{target.file}:{one.line}: {one.name}{' (equivalent)' if one.name in reasons else ''}")
        return 0
    seconds = _time_unchanged(target)
    print(f"{target.file}: {len(mutants)} mutants, {seconds:.0f} s of tests each", flush=True)
    wanted = [one for one in mutants if one.name not in reasons]
    survivors = []
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(_survives, target, one, _TIMES * seconds + _BESIDE): one for one in wanted}
        for done, finished in enumerate(as_completed(running), 1):
            one = running[finished]
            if finished.result():
                survivors.append(one)
                print(f"SURVIVED {target.file}:{one.line}: {one.name}", flush=True)
            elif sys.stderr.isatty():
                print(f"\r{done} of {len(wanted)}", end="", file=sys.stderr, flush=True)
    killed = len(wanted) - len(survivors)
    print(
        f"{target.file}: {killed} killed, {len(survivors)} survived, {len(mutants) - len(wanted)} equivalent",
        flush=True,
    )
    return len(survivors)


def _time_unchanged(target: Target) -> float:
    """The time of the tests on unchanged code. They have to pass, and to run on the copy: a broken copy fails."""
    began = time.monotonic()
    unchanged = (PACKAGE / target.file).read_text("utf-8")
    if not _passes(target, unchanged, None):
        raise SystemExit(f"{target.file}: its tests fail on the unchanged code; mend that first")
    seconds = time.monotonic() - began
    if _passes(target, "raise ImportError('a mutant that no test can miss')\n", None):
        raise SystemExit(f"{target.file}: its tests pass on a file that can't be imported; they do not use the copy")
    return seconds


def _survives(target: Target, mutant: Mutant, seconds: float) -> bool:
    return _passes(target, mutant.source, seconds)


def _passes(target: Target, source: str, seconds: float | None) -> bool:
    with _copy(target.file, source) as copy:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--timeout={_A_TEST}"]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [*command, *target.tests],
                cwd=_ROOT,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


@contextmanager
def _copy(file: str, source: str) -> Iterator[Path]:
    """A directory for PYTHONPATH with the package in it, one file of which is this source."""
    with tempfile.TemporaryDirectory(prefix="meshtls-mutant-") as directory:
        shutil.copytree(PACKAGE, Path(directory) / "meshtls", ignore=shutil.ignore_patterns("__pycache__"))
        (Path(directory) / "meshtls" / file).write_text(source, "utf-8")
        yield Path(directory)


if __name__ == "__main__":
    sys.exit(main())
