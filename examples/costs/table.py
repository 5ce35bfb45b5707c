"""``python3 -m examples.costs.table CAPTURE COLUMN...``: the columns, of the records of ``meshtls capture analyze``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from examples.costs.talk import KEYLOG

__all__ = ["connections"]

Record = dict[str, Any]


def connections(capture: str) -> list[Record]:
    """The records, in the order of the connections."""
    command = ["meshtls", "capture", "analyze", capture, "--output", "json"]
    command += ["--keylog", str(KEYLOG)] if KEYLOG.exists() else []
    found: list[Record] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)["connections"]
    return found


def _added(one: Record, side: str) -> int:
    return int(one[side]["tls_bytes"] - one[side]["application_bytes"])


def _both(name: str) -> Callable[[Record], str]:
    return lambda one: f"{one['client'][name]} + {one['server'][name]}"


def _ms(value: float | None) -> str:
    return f"{value:.0f} ms" if value is not None else "-"


def _of_handshake(one: Record, name: str) -> Any:
    return (one["handshake"] or {}).get(name)


_COLUMNS: Mapping[str, Callable[[Record], str]] = {
    "tls-bytes": lambda one: f"{_added(one, 'client')} + {_added(one, 'server')}",
    "overhead": lambda one: f"{one['overhead']:.2f}",
    "trips": lambda one: str(_of_handshake(one, "round_trips") or 0),
    "tcp": lambda one: _ms(one["tcp_rtt_ms"]),
    "tls": lambda one: _ms(_of_handshake(one, "ms")),
    "request": lambda one: _ms(one["first_data_ms"]),
    "all": lambda one: _ms(one["duration_ms"]),
    "sent-again": _both("retransmitted"),
    "captured-twice": _both("duplicated"),
    "out-of-order": _both("out_of_order"),
    "outcome": lambda one: one["outcome"] or "-",
}


def main() -> None:
    """Print a line for each connection, which has the name in its ClientHello."""
    capture, *columns = sys.argv[1:]
    print(" " * 25, *(f"{column:>12}" for column in columns))
    for one in connections(capture):
        name = _of_handshake(one, "server_name") or "(no TLS)"
        print(f"{name:25}", *(f"{_COLUMNS[column](one):>12}" for column in columns))


if __name__ == "__main__":
    main()
