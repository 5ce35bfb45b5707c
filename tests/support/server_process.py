"""A server in a process of its own, for tests that kill it: ``python -m tests.support.server_process CONFIG``."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from meshtls.server.config import load_config
from meshtls.server.run import RunningServer, running_server

__all__ = ["main_of", "server_process", "server_that_said"]

_ROOT = Path(__file__).parents[2]


@contextmanager
def server_process(config: Path, wrapper: Sequence[str] = ()) -> Iterator[tuple[subprocess.Popen[str], RunningServer]]:
    """Run a server with this file, started through ``wrapper`` if given; SIGKILL ends it."""
    command = [*wrapper, sys.executable, "-m", "tests.support.server_process", str(config)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, f"the server did not start: {process.wait(10)}"
            yield process, server_that_said(line)
        finally:
            process.send_signal(signal.SIGKILL)


def server_that_said(line: str) -> RunningServer:
    """The server whose first line of output this is."""
    said = json.loads(line)
    address, attest_address = tuple(said["address"]), tuple(said["attest_address"])
    return RunningServer(address, attest_address, Path(said["socket_path"]), said["server_id"])


def _say(server: RunningServer) -> None:
    said = {
        "address": server.address,
        "attest_address": server.attest_address,
        "socket_path": str(server.socket_path),
        "server_id": server.server_id,
    }
    print(json.dumps(said), flush=True)


async def _serve(config: Path) -> None:
    async with running_server(load_config(config)) as server:
        _say(server)
        await asyncio.get_running_loop().create_future()


def main_of(arguments: Sequence[str]) -> None:
    asyncio.run(_serve(Path(arguments[0])))


if __name__ == "__main__":
    main_of(sys.argv[1:])
