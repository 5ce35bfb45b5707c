"""``python -m tests.soak --help``. Exit status 1: a check failed, each violation is named."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from bench.identity.figures import UnmeasuredError
from meshtls.errors import MeshtlsError
from tests.soak.report import Report, table
from tests.soak.run import soak

_LEAST_S = 30.0


def main() -> int:
    args = _arguments()
    logging.getLogger("meshtls").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # A report that a program reads has standard output to itself.
    progress = Console(stderr=args.output == "json", highlight=False, soft_wrap=True)
    progress.print(f"seed {args.seed}: the same choices again with --seed {args.seed}", markup=False)
    directory = Path(tempfile.mkdtemp(prefix="meshtls-soak-"))
    directory.chmod(0o755)
    passed = False
    try:
        report = asyncio.run(_interruptible(args.seed, args.seconds, directory, progress))
        passed = not report.violations
        if not passed:
            report = msgspec.structs.replace(report, kept=str(directory))
        _print(report, args.output, progress)
    except (UnmeasuredError, MeshtlsError, TimeoutError) as error:
        progress.print(f"the run came to no end: {error}; the files are kept in {directory}", markup=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        progress.print("interrupted", markup=False)
        passed = True
        return 130
    else:
        return report.exit_status
    finally:
        if passed:
            shutil.rmtree(directory)


async def _interruptible(seed: int, seconds: float, directory: Path, progress: Console) -> Report:
    """SIGTERM ends a run as Ctrl-C does: all processes are stopped."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await soak(seed, seconds, directory, lambda line: progress.print(line, markup=False))


def _print(report: Report, output: str, progress: Console) -> None:
    if output == "json":
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        return
    console = Console(highlight=False, width=None if progress.is_terminal else 150)
    console.print(table(report))
    for line in report.violations:
        console.print(f"VIOLATION {line}", markup=False, soft_wrap=True)
    if report.kept:
        console.print(f"{len(report.violations)} violations; the files are kept in {report.kept}", markup=False)
    else:
        console.print("No violations.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help=f"of load (600; at least {_LEAST_S:g})")
    parser.add_argument(
        "--seed", type=int, default=secrets.randbits(32), help="of the random choices; not of the timing"
    )
    parser.add_argument("--output", choices=("text", "json"), default="text")
    args = parser.parse_args()
    if args.seconds < _LEAST_S:
        parser.error(f"--seconds: wanted {_LEAST_S:g} or more, or nothing lives long enough to be judged")
    return args


if __name__ == "__main__":
    sys.exit(main())
