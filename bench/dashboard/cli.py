"""``python -m bench.dashboard``: start the crowd, start a dashboard beside it, measure, print."""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from playwright.sync_api import Browser, sync_playwright

from bench.report import this_machine

__all__ = ["main"]

_ROUNDS = 15
_PAGES = ("mesh", "identities", "connections", "denials", "policies", "trust", "processes")


@click.command()
@click.option("--workloads", default=500, show_default=True)
@click.option("--connections", default=10_000, show_default=True, help="Live ones, over all workloads.")
@click.option("--seconds", default=30.0, show_default=True, help="How long the dashboard is left alone and measured.")
def main(workloads: int, connections: int, seconds: float) -> None:
    """Measure a dashboard of a large mesh: its CPU, its memory, and how soon each page is there."""
    with tempfile.TemporaryDirectory(prefix="meshtls-") as name, _crowd(Path(name), workloads, connections):
        sockets = [f"--socket={Path(name) / f'{number}.sock'}" for number in range(workloads)]
        command = [sys.executable, "-m", "meshtls", "dashboard", *sockets]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dashboard:
            try:
                assert dashboard.stdout is not None  # noqa: S101  # it is a pipe
                url = dashboard.stdout.readline().strip().removeprefix("dashboard: ")
                _wait(url, workloads, connections)
                click.echo(f"{this_machine()}\n\nall {workloads} answered after {time.monotonic() - began:.1f} s")
                cpu, wall = _cpu(dashboard.pid), time.monotonic()
                time.sleep(seconds)
                share = (_cpu(dashboard.pid) - cpu) / (time.monotonic() - wall)
                click.echo(f"CPU {100 * share:.0f} % of one, memory {_memory(dashboard.pid):.0f} MiB\n")
                _views(url)
                _browser(url)
            finally:
                dashboard.terminate()


@contextmanager
def _crowd(directory: Path, workloads: int, connections: int) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.dashboard.crowd", str(directory), str(workloads), str(connections)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as crowd:
        try:
            assert crowd.stdout is not None  # noqa: S101  # it is a pipe
            crowd.stdout.readline()
            yield
        finally:
            crowd.terminate()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310  # ours, on loopback
        content: bytes = answer.read()
    return content


def _wait(url: str, workloads: int, connections: int) -> None:
    wanted = f'"live":{connections // workloads * workloads},'.encode()
    while wanted not in _get(f"{url}api/connections?state=live&limit=1"):
        time.sleep(0.5)


def _views(url: str) -> None:
    click.echo("| page | answer, median ms | slowest | KiB |\n|---|---:|---:|---:|")
    for page in (*_PAGES, "connections?q=team-7&verdict=denied"):
        took, size = [], 0
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            size = len(_get(f"{url}api/{page}"))
            took.append((time.perf_counter() - began) * 1000)
        click.echo(f"| {page} | {statistics.median(took):.0f} | {max(took):.0f} | {size / 1024:.0f} |")


def _browser(url: str) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        click.echo("\nno chromium: how soon a page is drawn is not measured")
        return
    click.echo("\n| page | from the click until it is drawn, ms |\n|---|---:|")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        _drawn(browser, url)
        browser.close()


def _drawn(browser: Browser, url: str) -> None:
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector("#view[data-ready=mesh]")
    for name in (*_PAGES[1:], _PAGES[0]):
        began = time.perf_counter()
        page.get_by_role("link", name=name.capitalize(), exact=True).click()
        page.wait_for_selector(f"#view[data-ready={name}]")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        click.echo(f"| {name} | {(time.perf_counter() - began) * 1000:.0f} |")


def _cpu(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / 100


def _memory(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)
