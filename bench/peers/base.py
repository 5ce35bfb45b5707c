"""What the harness asks of a peer: is it here, what can it do, and which programs make one side of a pair."""

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
    """What crosses between the halves when an app opens a connection."""

    FULL = "full"
    """A TLS connection of its own, with a full handshake: resumption is off."""
    RESUMED = "resumed"
    """A TLS connection of its own, resumed from an earlier one."""
    TUNNEL = "tunnel"
    """A stream in a TLS connection that is up already (HTTP/2 CONNECT)."""


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
    """What both sides verify with, and who they are."""

    roots: Path
    sides: Mapping[Side, SideCerts]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a pair is put up. ``workdir`` is empty, the pair's own, and gone afterwards."""

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
        """Where ``http_app`` answers."""
        return self.workdir / "app.sock"

    def http_app(self) -> Program:
        """The app behind an HTTP/2 listener."""
        argv = [sys.executable, "-m", "bench.http_app", str(self.app_socket)]
        return Program(argv, counted=False, socket=self.app_socket)

    def write(self, side: Side, suffix: str, text: str) -> Path:
        """Write one side's configuration and tell where it is."""
        path = self.workdir / f"{side.value}{suffix}"
        path.write_text(text)
        return path


@dataclass(frozen=True, slots=True)
class Program:
    """A program to start in the foreground. ``counted`` is False for one that no application byte passes through;
    with ``socket``, the next program is started once somebody answers there.
    """

    argv: Sequence[str]
    counted: bool = True
    socket: Path | None = None


class Peer(Protocol):
    """A proxy that can be put up as a pair with one worker on each side."""

    @property
    def name(self) -> str:
        """A word, as in ``--only``."""

    def missing(self) -> str | None:
        """Why it can't be measured here, and what to do about it; None if it can."""

    def version(self) -> str:
        """The peer's version and its TLS library's; asked only if it isn't missing."""

    def supports(self, setup: Setup) -> bool:
        """Can a pair of it do this?"""

    def programs(self, side: Side, setup: Setup, site: Site) -> Sequence[Program]:
        """Write the configuration of one side and tell what to start."""
