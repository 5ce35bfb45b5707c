"""Other programs, run from the checkout's root with a deadline."""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND_TIMEOUT = 60.0


def run(command: Sequence[str], timeout: float = COMMAND_TIMEOUT, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)


def checked(command: Sequence[str], timeout: float = COMMAND_TIMEOUT) -> subprocess.CompletedProcess[str]:
    done = run(command, timeout)
    if done.returncode:
        raise AssertionError(f"`{' '.join(command)}` ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def follow(command: Sequence[str], timeout: float) -> Iterator[str]:
    """The lines a command prints, as they come, until it ends or the timeout ends it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            yield from process.stdout
        finally:
            timer.cancel()
            process.kill()
