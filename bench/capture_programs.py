"""Programs that read a capture, and the CPU time of one run of each."""

from __future__ import annotations

import importlib.util
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

__all__ = ["ANALYSIS", "PROGRAMS", "SCAPY", "TSHARK", "CaptureError", "CaptureProgram", "cpu_seconds"]

_ROOT = Path(__file__).resolve().parents[1]
_LIMIT_S = 300.0
#: Of packets, records, every handshake field and alerts: what our analysis has of a connection without keys.
_FIELDS = (
    *("frame.number", "frame.time_epoch", "frame.len", "ip.src", "ip.dst", "tcp.srcport", "tcp.dstport", "tcp.stream"),
    *("tcp.len", "tcp.flags", "tcp.analysis.retransmission", "tcp.analysis.out_of_order"),
    *(f"tls.record.{name}" for name in ("content_type", "opaque_type", "version", "length")),
    *("tls.alert_message.level", "tls.alert_message.desc", "tls.extension.psk_ke_mode"),
    *(
        f"tls.handshake.{name}"
        for name in (
            *("type", "length", "version", "random", "session_id", "ciphersuite", "comp_method"),
            *("extension.type", "extension.len", "extension.data"),
            *("extensions_server_name", "extensions_alpn_str", "extensions_supported_group"),
            *("extensions_ec_point_format", "extensions_key_share_group", "extensions_key_share_key_exchange"),
            *("extensions.supported_version", "extensions.psk.identity.identity", "extensions.psk.binders"),
            *("sig_hash_alg", "certificate", "dnames", "server_named_curve", "server_point", "client_cert_vrfy.sig"),
        )
    ),
    *("x509sat.uTF8String", "x509ce.dNSName", "x509ce.uniformResourceIdentifier"),
)


class CaptureError(Exception):
    """A program failed, and its last words."""


@dataclass(frozen=True, slots=True)
class CaptureProgram:
    """``argv``: FILE and PACKETS stand for the capture, and for how many packets of it are read by a program that is so
    slow that it reads a part (``part``).
    """

    name: str
    argv: Sequence[str]
    part: bool = False
    version: str = ""
    missing: str = ""


def _ours(name: str, way: str, *, part: bool = False, version: str = "", missing: str = "") -> CaptureProgram:
    argv = (sys.executable, "-m", "bench.capture_reading", way, "FILE", *(["PACKETS"] if part else []))
    return CaptureProgram(name, argv, part, version, missing)


def _other(name: str, *options: str, install: str, asks: str = "--version") -> CaptureProgram:
    path = shutil.which(name)
    if path is None:
        return CaptureProgram(name, (), missing=f"not installed: {install}")
    told = subprocess.run([path, asks], capture_output=True, text=True, check=False, timeout=_LIMIT_S).stdout
    return CaptureProgram(name, (path, *options), version=(told.splitlines() or [""])[0])


ANALYSIS, TSHARK, SCAPY = "meshtls: full analysis", "tshark", "scapy"
_has_scapy = importlib.util.find_spec("scapy") is not None
PROGRAMS: Mapping[str, CaptureProgram] = {
    one.name: one
    for one in (
        _ours("meshtls: packets of the file", "packets"),
        _ours("meshtls: and TCP streams", "streams"),
        _ours("meshtls: and TLS records", "records"),
        _ours(ANALYSIS, "analysis"),
        _other(
            TSHARK,
            *("-n", "-r", "FILE", "-T", "fields", *(part for field in _FIELDS for part in ("-e", field))),
            install="the package tshark of Debian",
        ),
        _ours(
            SCAPY,
            "scapy",
            part=True,
            version=f"scapy {version('scapy')}" if _has_scapy else "",
            missing="" if _has_scapy else "not installed: pip install scapy",
        ),
        _other("zeek", "-C", "-r", "FILE", install="see zeek.org"),
    )
}


def cpu_seconds(program: CaptureProgram, capture: Path, packets: int) -> float:
    """User and system time of one run, whose output is thrown away. Raises CaptureError if it fails."""
    given = {"FILE": str(capture), "PACKETS": str(packets)}
    argv = [given.get(part, part) for part in program.argv]
    own = argv[0] == sys.executable
    before = _children()
    with tempfile.TemporaryDirectory(prefix="meshtls-bench-capture-") as name:
        done = subprocess.run(
            argv,
            cwd=_ROOT if own else name,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=_LIMIT_S,
        )
    if done.returncode:
        raise CaptureError(
            f"{program.name}: exit code {done.returncode}: {done.stderr[-400:].decode(errors='replace')}"
        )
    return _children() - before


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
