"""A pair of proxies with an app behind it, up and warm."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Generator, LoadError
from bench.peers.base import Certs, Peer, Ports, Program, Setup, Side, Site
from bench.processes import free_ports, started

__all__ = ["Pair", "logged", "pair_of", "started_side"]

_START_S = 30.0
_ANSWER_S = 2.0
_RETRY_S = 0.05
_WARM_CONNECTIONS = 8
_LINE = 400
_HELLO = b"E" + bytes(16)


@dataclass(frozen=True, slots=True)
class Pair:
    """``entry`` takes plaintext that reaches the app; ``pids`` are the processes whose cost counts."""

    entry: int
    pids: Sequence[int]


@contextmanager
def pair_of(
    peer: Peer, setup: Setup, certs: Certs, generator: Generator, workdir: Path, *, patience: float = _START_S
) -> Iterator[Pair]:
    """Start both sides, and prove with an echo that they work together.

    Raises LoadError with their logs, also if there is no echo within ``patience`` seconds.
    """
    site = Site(Ports(*free_ports(3)), certs, workdir)
    with ExitStack() as stack:
        stack.enter_context(generator.server(site.ports.app))
        pids: list[int] = []
        for side in (Side.SERVER, Side.CLIENT):
            pids += stack.enter_context(started_side(side, peer.programs(side, setup, site), workdir))
        try:
            _warm_up(peer, site.ports.entry, patience)
            yield Pair(site.ports.entry, pids)
        except LoadError as error:
            raise LoadError(f"{error}\n{logged(workdir)}".strip()) from error


@contextmanager
def started_side(side: Side, programs: Sequence[Program], workdir: Path) -> Iterator[list[int]]:
    """Run the programs of one side of a pair, and yield the process ids of those whose cost counts.

    Raises LoadError if a program does not accept connections on its socket.
    """
    pids: list[int] = []
    with ExitStack() as stack:
        for program in programs:
            process = stack.enter_context(started(program.argv, workdir / f"{side.value}.out"))
            pids += [process.pid] if program.counted else []
            if program.socket is not None:
                _wait_for(program.socket)
        yield pids


def _warm_up(peer: Peer, port: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    left = _WARM_CONNECTIONS
    while left:
        if _echoes(port):
            left -= 1
        elif time.monotonic() > deadline:
            raise LoadError(f"{peer.name}: wanted an echo through the pair, got none within {patience:g} s")
        else:
            time.sleep(_RETRY_S)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not _answers(path):
        if time.monotonic() > deadline:
            raise LoadError(f"{path}: wanted somebody to answer there within {_START_S:g} s")
        time.sleep(_RETRY_S)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _echoes(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), _ANSWER_S) as connection:
            connection.sendall(_HELLO)
            return bool(connection.recv(1))
    except OSError:
        return False


def logged(workdir: Path) -> str:
    """The last line of each program's log."""
    logs = [(path.name, path.read_text(errors="replace").splitlines()) for path in sorted(workdir.glob("*.out"))]
    return "\n".join(f"{name}: {lines[-1][:_LINE]}" for name, lines in logs if lines)
