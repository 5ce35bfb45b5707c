"""meshtls as operators run it: processes, their files, and free ports."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from typing import IO

from tests.support.ports import free_ports

__all__ = ["Process", "meshtls", "started", "two_sidecars"]

_SECONDS = 120


def meshtls(*arguments: str | Path, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    command = [sys.executable, "-m", "meshtls", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


class Process:
    """One that runs: wait for its lines, end it."""

    def __init__(self, popen: subprocess.Popen[str]) -> None:
        self.popen = popen
        self._lines: dict[str, Queue[str | None]] = {
            name: Queue() for name in ("stdout", "stderr") if getattr(popen, name) is not None
        }
        self._readers = [threading.Thread(target=self._read, args=(name,)) for name in self._lines]
        for reader in self._readers:
            reader.start()

    def line(self, containing: str, stream: str = "stderr") -> str:
        """The next line with this text in it; fails if none comes."""
        seen = []
        with suppress(Empty):
            while (line := self._lines[stream].get(timeout=_SECONDS)) is not None:
                if containing in line:
                    return line
                seen.append(line)
        others = {name: list(lines.queue) for name, lines in self._lines.items() if name != stream}
        ended = f"it ended with {code}" if (code := self.popen.poll()) is not None else "it runs"
        raise AssertionError(f"no line with {containing!r} on {stream}; it said {seen}, and {others}; {ended}")

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.popen.terminate()
        return self.popen.wait(_SECONDS)

    def join(self) -> None:
        for reader in self._readers:
            reader.join()

    def _read(self, name: str) -> None:
        for line in getattr(self.popen, name):
            self._lines[name].put(line)
        self._lines[name].put(None)


@contextmanager
def started(
    *arguments: str | Path, stdout: int | IO[str] = subprocess.PIPE, directory: Path | None = None
) -> Iterator[Process]:
    """Run while the body runs, in this directory if given; killed at the end if it still runs."""
    command = [sys.executable, "-m", "meshtls", *map(str, arguments)]
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=directory) as popen:
        process = Process(popen)
        try:
            yield process
        finally:
            popen.kill()
            process.join()


def two_sidecars(directory: Path, *, ids: tuple[str, str], extra: str = "") -> dict[str, int]:
    """Write a.yaml and b.yaml, each the other's only peer; the ports by name, such as ``a_app``."""
    names = [f"{side}_{door}" for side in "ab" for door in ("in", "app", "out", "health")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    for side, other, own, peer in (("a", "b", *ids), ("b", "a", *reversed(ids))):
        (directory / f"{side}.yaml").write_text(
            f"name: {side}\n"
            f"spiffe_id: {own}\n"
            f"{extra}"
            "inbound:\n"
            f'  - {{listen: "127.0.0.1:{ports[side + "_in"]}", app: "127.0.0.1:{ports[side + "_app"]}",'
            f' allow: ["{peer}"]}}\n'
            "outbound:\n"
            f'  - {{listen: "127.0.0.1:{ports[side + "_out"]}", to: "127.0.0.1:{ports[other + "_in"]}",'
            f' peer: "{peer}"}}\n'
            f'health: "127.0.0.1:{ports[side + "_health"]}"\n'
        )
    return ports
