"""What the verbs that capture packets share: their options, and their end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

import click

from meshtls.cli.options import ParsedOption
from meshtls.scalars import whole_number

__all__ = ["capture_options", "nothing_captured", "stop_requested"]

F = TypeVar("F", bound=Callable[..., object])
_PORT = ParsedOption("PORT", whole_number(1, 65535))


def capture_options(command: F) -> F:
    """Add ``--interface``, ``--port`` and ``--seconds``."""
    for option in (
        click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End after so many seconds."),
        click.option(
            "--port",
            "ports",
            type=_PORT,
            multiple=True,
            help="Only TCP packets from or to this port; may be repeated. Default: all of TCP.",
        ),
        click.option("-i", "--interface", required=True, help="The interface, such as lo or eth0, or any for all."),
    ):
        command = option(command)
    return command


def nothing_captured(interface: str) -> str:
    """What to say at the end of a capture without packets."""
    return f"no TCP packets of {interface} were captured: wrong interface or port?"


@contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came: a capture ends in order. A second one ends it at once."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
