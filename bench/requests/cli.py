"""``python -m bench.requests``: measure, print, write."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from bench.certificates import make_certs
from bench.cli import leave
from bench.clocks import settled_cpu_seconds
from bench.load import LoadError
from bench.pair import logged, started_side
from bench.peers.base import Certs, Ports, Side, Site
from bench.processes import free_ports, started
from bench.report import Machine, this_machine, write_report
from bench.requests.contenders import Contender, all_contenders
from bench.requests.kinds import KINDS, Kind

__all__ = ["Cell", "RequestsReport", "main", "measure", "plain"]

_ROOT = Path(__file__).resolve().parents[2]
_RESULTS = _ROOT / "bench" / "results"
_START_S, _LIMIT_S, _RETRY_S = 30.0, 180.0, 0.1
#: Ten on each connection.
_FEW = 640
#: A gRPC message of 64 bytes: uncompressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message).
_MESSAGE = b"\0" + (64).to_bytes(4, "big") + b"x" * 64


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """One measurement: CPU-µs of both proxies for each request, or an error."""

    contender: str
    kind: str
    round: int
    microseconds: float | None = None
    requests_per_second: float | None = None
    error: str | None = None


class RequestsReport(msgspec.Struct, frozen=True):
    started: str
    machine: Machine
    requests: int
    versions: dict[str, str]
    cells: list[Cell]

    def median(self, contender: str, kind: str) -> float | None:
        found = [
            one.microseconds
            for one in self.cells
            if (one.contender, one.kind) == (contender, kind) and one.microseconds is not None
        ]
        return statistics.median(found) if found else None


@click.command()
@click.option("--rounds", type=click.IntRange(1, 50), default=3, help="Measurements of each pair.")
@click.option("--requests", type=click.IntRange(100), default=20_000, help="Requests of a measurement.")
@click.option("--only", metavar="NAME,...", help="These contenders.")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=_RESULTS, help="Where to write.")
def main(rounds: int, requests: int, only: str | None, results: Path) -> None:
    """Measure what a request costs through a pair with mutual TLS and one rule for requests."""
    signal.signal(signal.SIGTERM, leave)
    if shutil.which("h2load") is None:
        raise click.ClickException("no h2load here; install it (Debian: nghttp2-client)")
    chosen = [one for one in all_contenders(_ROOT) if only is None or one.name in only.split(",")]
    present = [one for one in chosen if one.missing() is None]
    started_at, machine = datetime.now(UTC).isoformat(timespec="seconds"), this_machine()
    cells = []
    for number in range(rounds):
        for kind in KINDS:
            for contender in (one for one in present if one.reads(kind)):
                cells.append(measure(contender, kind, number, requests))
                click.echo(f"{cells[-1]}", err=True)
    report = RequestsReport(started_at, machine, requests, {one.name: one.version() for one in present}, cells)
    write_report(report, results / "requests.json")
    click.echo(plain(report))


def plain(report: RequestsReport) -> str:
    """The table as Markdown."""
    names = list(report.versions)
    lines = [f"| CPU-µs for each | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for kind in KINDS:
        medians = [report.median(name, kind.name) for name in names]
        lines.append(f"| {kind.unit} | {' | '.join('-' if one is None else f'{one:.1f}' for one in medians)} |")
    lines.append(f"\n{report.machine.load}")
    return "\n".join(lines)


def measure(contender: Contender, kind: Kind, number: int, requests: int) -> Cell:
    """Start a pair, and count its CPU time while h2load runs twice: with few requests, and with ``requests`` more.

    The difference has no handshakes in it.
    """
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-requests-") as name:
        workdir = Path(name)
        try:
            with _pair(contender, kind, make_certs(workdir), workdir) as (entry, pids):
                _load(kind, entry, _FEW, workdir)
                clocks = [settled_cpu_seconds(pids)]
                for count in (_FEW, _FEW + requests):
                    rate = _load(kind, entry, count, workdir)
                    clocks.append(settled_cpu_seconds(pids))
                spent = clocks[2] - clocks[1] - (clocks[1] - clocks[0])
        except LoadError as error:
            return Cell(contender.name, kind.name, number, error=f"{error} {logged(workdir)}")
    return Cell(contender.name, kind.name, number, spent * 1e6 / requests, rate)


@contextmanager
def _pair(contender: Contender, kind: Kind, certs: Certs, workdir: Path) -> Iterator[tuple[int, list[int]]]:
    site = Site(Ports(*free_ports(3)), certs, workdir)
    with ExitStack() as stack:
        app = [sys.executable, "-m", "bench.requests.app", kind.app, str(site.ports.app)]
        stack.enter_context(started(app, workdir / "app.out"))
        _wait_for(site.ports.app)
        pids: list[int] = []
        for side in (Side.SERVER, Side.CLIENT):
            pids += stack.enter_context(started_side(side, contender.programs(side, kind, site), workdir))
        for port in (site.ports.mesh, site.ports.entry):
            _wait_for(port)
        yield site.ports.entry, pids


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline:
            raise LoadError(f"port {port}: wanted a listener within {_START_S:g} s")
        time.sleep(_RETRY_S)


def _load(kind: Kind, port: int, requests: int, workdir: Path) -> float:
    """Requests per second. Raises LoadError unless each was answered with 2xx."""
    body: tuple[str, ...] = ()
    if kind.http2:
        message = workdir / "message"
        message.write_bytes(_MESSAGE)
        body = ("-d", str(message))
    argv = ["h2load", "-n", str(requests), *kind.load, *body, f"http://127.0.0.1:{port}{kind.path}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    found = re.search(r"status codes: (\d+) 2xx", done.stdout)
    if found is None or int(found[1]) != requests:
        raise LoadError(f"wanted {requests} answers of 2xx, got: {done.stdout[-600:]} {done.stderr[-200:]}")
    rate = re.search(r"([\d.]{1,24}) req/s", done.stdout)
    return float(rate[1]) if rate else 0.0
