"""Reads captures for the verbs: their options, progress on a terminal, and where a file breaks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import click

from meshtls.capture.analysis.analyzing import Analysis, Progress
from meshtls.capture.analysis.bundles import CaptureBundle
from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.hidden import NO_SECRETS
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.files.opening import STANDARD_INPUT, opened_to_read
from meshtls.capture.keylog import KeyLog
from meshtls.cli.output import Output, tell_progress
from meshtls.errors import BundleError, ConfigError

__all__ = ["Captures", "capture_options", "counted", "may_grow"]

F = TypeVar("F", bound=Callable[..., object])
_PIECE = 1 << 16


def capture_options(command: F) -> F:
    """Add ``--keylog`` and ``--bundle``."""
    path = click.Path(path_type=Path)
    keylog = click.option("--keylog", type=path, help="TLS secrets in NSS's format (SSLKEYLOGFILE), to decrypt with.")
    bundle = click.option(
        "--bundle", type=path, help="Verify the chains by this bundle (PEM or SPIFFE), at the time of the capture."
    )
    return keylog(bundle(command))


def counted(connections: int) -> str:
    """The number with its noun."""
    return f"{connections} connection{'s' * (connections != 1)}"


def may_grow(name: str) -> bool:
    """Whether this capture may be of a program that still writes it: what is no regular file, such as a pipe."""
    return name == STANDARD_INPUT or not Path(name).is_file()


class Captures:
    """Captures that are read one after the other. ``exit_code``: 1 once one of them was damaged."""

    def __init__(self, out: Output, keylog: Path | None, bundle: Path | None) -> None:
        """Raises ConfigError where a file can't be read."""
        self.exit_code = 0
        self.packets = self._connections = 0
        self._out, self._keylog = out, keylog
        self._keys = _keys(keylog) if keylog is not None else None
        self._bundle = _bundle(bundle) if bundle is not None else None
        if self._keys is not None and self._keys.wrong_lines:
            first = self._keys.troubles[0]
            out.notice(f"{keylog}: {self._keys.wrong_lines} lines can't be used; line {first.line}: {first.reason}")

    def read(self, name: str, keep: Callable[[Watched], None] | None = None) -> Iterator[Connection]:
        """The connections of a file, each when it is over. Raises ConfigError where it can't be opened."""
        shows = sys.stderr.isatty()

        def show(progress: Progress) -> None:
            tell_progress(f"{name}: {progress.packets} packets", last=False)

        with opened_to_read(name) as stream:
            analysis = Analysis(
                stream, self._keys, self._bundle, progress=show if shows else None, keep=keep, before=self._connections
            )
            encrypted = without = 0
            unverified, why = 0, ""
            for one in analysis:
                encrypted += one.handshake is not None
                without += NO_SECRETS in one.troubles
                for end in (one.client, one.server):
                    if end.peer is not None and end.peer.unverified_because:
                        unverified += 1
                        why = why or end.peer.unverified_because
                yield one
        self.packets += analysis.packets
        self._connections += analysis.connections
        if shows and analysis.packets >= 1 << 14:
            tell_progress(f"{name}: {analysis.packets} packets", last=True)
        if analysis.error is not None:
            self.exit_code = 1
            words = f"{name}: damaged {analysis.error.words}"
            self._out.error("DamagedCapture", f"{words}; {analysis.packets} packets were read before it", 1)
        elif not analysis.connections:
            self._out.notice(f"{name}: no TCP connections in {analysis.packets} packets: wrong interface or port?")
        if without and self._keylog is not None:
            lacks = f"{self._keylog} has no secrets of {without} of {encrypted} TLS connections"
            self._out.notice(f"{name}: {lacks}: are they of this run?")
        if unverified:
            chains = (
                "1 chain is not verified" if unverified == 1 else f"{unverified} chains are not verified; the first"
            )
            self._out.notice(f"{name}: {chains}: {why}")
        refused = analysis.memory.refused
        if refused:
            most = f"the bound of {analysis.memory.most >> 20} MiB for all connections together was reached"
            self._out.notice(f"{name}: {most}: something of {counted(refused)} is left out; their troubles say so")
        unknown = analysis.totals.unknown_link_types
        if unknown:
            kinds = ", ".join(map(str, sorted(unknown)))
            self._out.notice(f"{name}: {sum(unknown.values())} packets of link types that are not read: {kinds}")


def _keys(file: Path) -> KeyLog:
    keys = KeyLog()
    try:
        with file.open("rb") as stream:
            while data := stream.read(_PIECE):
                keys.feed(data)
    except OSError as error:
        raise ConfigError(f"--keylog {file}: wanted a file to read: {error.strerror}") from error
    keys.finish()
    return keys


def _bundle(file: Path) -> CaptureBundle:
    try:
        return CaptureBundle(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"--bundle {file}: wanted a file to read: {error.strerror}") from error
    except BundleError as error:
        raise ConfigError(f"--bundle {file}: {error}") from error
