"""Processes that start in a few milliseconds: forks of one process that has imported the servers' packages already.

``python -m tests.support.forking`` is that process. It reads a request a line, and answers each with a line.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

from meshtls.server.run import RunningServer
from tests.support.server_process import server_that_said

__all__ = ["Fork", "Forks", "forks", "server_fork"]

_ROOT = Path(__file__).parents[2]
_MODULES = (
    "tests.support.server_process",
    "tests.integration.server.killed_at",
    "tests.integration.server.rotation_killed_at",
)
_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Fork:
    """``output`` is its standard output; its standard error goes to the file ``errors``."""

    pid: int
    output: IO[str]
    errors: Path


class Forks:
    """Starts modules of ``_MODULES`` as ``python -m`` does, and waits for their ends. One caller at a time."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, module: str, *arguments: str | Path, directory: Path) -> Fork:
        """Run ``module.main_of(arguments)``. Files for its output are made in ``directory``."""
        output, errors = directory / "fork-output", directory / "fork-errors"
        output.unlink(missing_ok=True)
        os.mkfifo(output)
        words = list(map(str, arguments))
        pid = self._ask({"module": module, "arguments": words, "output": str(output), "errors": str(errors)})
        return Fork(pid, output.open(), errors)

    def wait(self, fork: Fork) -> int:
        """Wait for its end, and return its exit code: minus the signal that killed it."""
        fork.output.close()
        return self._ask({"wait": fork.pid})

    def run(self, module: str, *arguments: str | Path, directory: Path) -> tuple[int, str, str]:
        """Run to the end: the exit code, output and errors."""
        fork = self.start(module, *arguments, directory=directory)
        said = fork.output.read()
        return self.wait(fork), said, fork.errors.read_text()

    @contextmanager
    def running(self, module: str, *arguments: str | Path, directory: Path) -> Iterator[Fork]:
        """Run while the body runs; SIGKILL ends it."""
        fork = self.start(module, *arguments, directory=directory)
        try:
            yield fork
        finally:
            os.kill(fork.pid, signal.SIGKILL)
            self.wait(fork)

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


@contextmanager
def forks() -> Iterator[Forks]:
    """The process that forks, while the body runs."""
    command = [sys.executable, "-m", "tests.support.forking"]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def server_fork(forked: Forks, config: Path) -> Iterator[RunningServer]:
    """Run a server with this file; SIGKILL ends it. Files for its output are made beside the file."""
    with forked.running("tests.support.server_process", config, directory=config.parent) as fork:
        line = fork.output.readline()
        assert line, f"the server did not start: {fork.errors.read_text()}"
        yield server_that_said(line)


def _serve() -> None:
    for module in _MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _, status = os.waitpid(request["wait"], 0)
            print(os.waitstatus_to_exitcode(status), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            _become(request)
        print(pid, flush=True)


def _become(request: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        signal.alarm(_SECONDS)
        for name, number in (("output", 1), ("errors", 2)):
            descriptor = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, number)
            os.close(descriptor)
        importlib.import_module(request["module"]).main_of(request["arguments"])
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
