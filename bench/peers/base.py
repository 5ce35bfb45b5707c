"""The harness's interface to a peer: whether it is installed, its capabilities, and the programs of one side."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

__all__ = ["CAPACITY", "MESSAGE_BYTES", "Certs", "Peer", "Ports", "Program", "Setup", "Side", "SideCerts", "Site"]

CAPACITY = 4000
"""Connections that every peer is configured to hold: more than any workload opens."""

MESSAGE_BYTES = 128 << 10
"""The longest request that an HTTP/2 listener takes, where that can be set: what our attestation port has."""


class Side(Enum):
    """Which half of a pair: ``CLIENT`` takes plaintext and dials mTLS, ``SERVER`` takes mTLS and dials the app."""

    CLIENT = "client"
    SERVER = "server"


class Setup(Enum):
    """The connection between the two sides when an app connects."""

    FULL = "full"
    """A TLS connection of its own, with a full handshake: resumption is off."""
    RESUMED = "resumed"
    """A TLS connection of its own, resumed from an earlier one."""
    TUNNEL = "tunnel"
    """A stream in an existing TLS connection (HTTP/2 CONNECT)."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of a pair, in the order that a byte passes them."""

    entry: int
    mesh: int
    app: int


@dataclass(frozen=True, slots=True)
class SideCerts:
    """One side's identity as PEM files: ``chain`` leaf first, ``key``, and ``both`` in one file."""

    spiffe_id: str
    dns_name: str
    chain: Path
    key: Path
    both: Path


@dataclass(frozen=True, slots=True)
class Certs:
    """The roots and the identities of both sides."""

    roots: Path
    sides: Mapping[Side, SideCerts]


@dataclass(frozen=True, slots=True)
class Site:
    """The place of a pair. ``workdir`` is an empty directory for this pair alone, removed afterwards."""

    ports: Ports
    certs: Certs
    workdir: Path

    def listen(self, side: Side) -> int:
        return self.ports.entry if side is Side.CLIENT else self.ports.mesh

    def target(self, side: Side) -> int:
        return self.ports.mesh if side is Side.CLIENT else self.ports.app

    def own(self, side: Side) -> SideCerts:
        return self.certs.sides[side]

    def other(self, side: Side) -> SideCerts:
        return self.certs.sides[Side.SERVER if side is Side.CLIENT else Side.CLIENT]

    @property
    def app_socket(self) -> Path:
        """The socket of ``http_app``."""
        return self.workdir / "app.sock"

    def http_app(self) -> Program:
        """The app behind an HTTP/2 listener."""
        argv = [sys.executable, "-m", "bench.http_app", str(self.app_socket)]
        return Program(argv, counted=False, socket=self.app_socket)

    def write(self, side: Side, suffix: str, text: str) -> Path:
        """Write one side's configuration and return its path."""
        path = self.workdir / f"{side.value}{suffix}"
        path.write_text(text)
        return path


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start in the foreground.

    - ``counted``: False for a program that carries no application bytes.
    - ``socket``: the next program is started once this socket accepts connections.
    """

    argv: Sequence[str]
    counted: bool = True
    socket: Path | None = None


class Peer(Protocol):
    """A proxy that can run as a pair with one worker on each side."""

    @property
    def name(self) -> str:
        """A word, as in ``--only``."""

    def missing(self) -> str | None:
        """Why the peer can't be measured here, and what to do; None if it can."""

    def version(self) -> str:
        """The versions of the peer and its TLS library; called only if it isn't missing."""

    def supports(self, setup: Setup) -> bool:
        """Whether a pair of this peer supports the setup."""

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        """Write the configuration of one side and return the programs to start."""
