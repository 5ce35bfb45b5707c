"""``meshtls capture record``: packets of an interface into a file that Wireshark opens decrypted."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, closing
from pathlib import Path

import click

from meshtls.capture.files.opening import opened_to_write
from meshtls.capture.live.capturing import captured
from meshtls.capture.live.growing_keylog import GrowingKeyLog
from meshtls.capture.live.recording import Limits, Recording
from meshtls.capture.live.ring import opened_ring
from meshtls.cli.capture.live_options import capture_options, nothing_captured, stop_requested
from meshtls.cli.options import ParsedOption, output_option
from meshtls.cli.output import Output
from meshtls.errors import ConfigError
from meshtls.scalars import size

__all__ = ["record"]

_SIZE = ParsedOption("SIZE", size(4096, 1 << 40, example=1 << 30))


@click.command()
@capture_options
@click.option("--write", "path", required=True, type=click.Path(path_type=Path), help="The pcapng file to write.")
@click.option(
    "--keylog",
    type=click.Path(path_type=Path),
    help="An SSLKEYLOGFILE, which is followed: its secrets go into the file, so that it can be read decrypted.",
)
@click.option("--packets", type=click.IntRange(min=1), help="End after so many packets.")
@click.option("--size", "most", type=_SIZE, default="1GiB", show_default=True, help="End before the file is larger.")
@output_option
def record(
    interface: str,
    ports: tuple[int, ...],
    path: Path,
    keylog: Path | None,
    seconds: float | None,
    packets: int | None,
    most: int,
    out: Output,
) -> int:
    """Write the TCP packets of an interface to a pcapng file, until Ctrl-C or a limit. Linux only.

    The process needs CAP_NET_RAW and no other right. The file is new, or replaces a capture, and only its owner can
    read it: with a key log it has the plaintext of each connection for anyone who reads it.
    """
    _check_names(path, keylog)
    with ExitStack() as stack:
        stopped = stack.enter_context(stop_requested())
        keys = stack.enter_context(closing(GrowingKeyLog(keylog))) if keylog is not None else None
        ring = stack.enter_context(opened_ring(interface, ports))
        try:
            # Closing a stream that could not be written fails again.
            with opened_to_write(path) as stream:
                limits = Limits(packets, most)
                recording = Recording(stream, interface, ring.link_type, limits, hold=keys is not None)
                out.event({"event": "capturing", "interface": interface, "file": str(path)}, f"capturing {interface}")
                for piece in captured(ring, keys, seconds, lambda: stopped() or bool(recording.full)):
                    recording.add_secrets(piece.secrets)
                    recording.add(piece.packets, piece.now_ns)
                counts = ring.counts()
                recording.finish(time.time_ns(), received=counts.received, dropped=counts.dropped)
        except OSError as error:
            raise ConfigError(f"{path}: wanted to write packets: {error.strerror or error}") from error
    ended = recording.full or ("it was stopped" if stopped() else "its time is over")
    result = {
        "event": "captured",
        "file": str(path),
        "packets": recording.packets,
        "secrets": recording.secrets,
        "dropped": counts.dropped,
        "ended": ended,
    }
    lost = f"; {counts.dropped} packets were dropped: the capture did not keep up" if counts.dropped else ""
    told = f"{path}: {recording.packets} packets and {recording.secrets} TLS secrets; {ended}{lost}"
    out.event(result, told)
    if recording.no_room:
        out.error("NoRoom", f"{path}: no packet had room: {recording.no_room}: give a larger --size", 1)
        return 1
    if not counts.received:
        out.notice(nothing_captured(interface))
    return 0


def _check_names(path: Path, keylog: Path | None) -> None:
    """Raises ConfigError, before anything is written."""
    if str(path) == "-":
        raise ConfigError(
            "--write -: wanted the name of a file, got standard output: record to a file, or print connections with"
            " `meshtls capture live`"
        )
    if keylog is not None and _same_file(path, keylog):
        raise ConfigError(
            f"--write {path}: wanted another file than the key log, got --keylog {keylog}, which is the same file:"
            " choose another name"
        )


def _same_file(one: Path, other: Path) -> bool:
    """Also by another name, and before there is one."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)
