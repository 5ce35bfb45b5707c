"""Draws a report: one panel for each figure that has peers.

``python -m bench.identity.plot IDENTITY.json`` redraws one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from bench.identity.figures import IdentityReport, MissingError
from bench.identity.table import number
from bench.plot import Bar, Panel, draw_panels, place
from bench.report import SUBJECT

__all__ = ["draw", "panels"]

_COLUMNS = 5


def draw(report: IdentityReport, path: Path) -> Path:
    """Write the plot, in the format of the suffix.

    Raises MissingError for a report without a comparison, and ModuleNotFoundError without matplotlib.
    """
    found = panels(report)
    if not found:
        raise MissingError("the report compares nothing with SPIRE")
    peers = ", ".join(report.versions.values())
    title = f"Server and agent of meshtls and of SPIRE, less is better\n{peers}\n{place(report.machine)}"
    return draw_panels(title, found, path, _COLUMNS)


def panels(report: IdentityReport) -> list[Panel]:
    """One for each figure that has peers, with a bar for each peer."""
    found = []
    for name in dict.fromkeys(one.name for one in report.compared):
        by_peer = {one.peer: one for one in report.compared if one.name == name}
        bars = [
            Bar(peer, None, "n/a", peer == SUBJECT)
            if (one := by_peer.get(peer)) is None
            else Bar(peer, one.value, number(one), peer == SUBJECT)
            for peer in report.peers
        ]
        found.append(Panel(name, next(iter(by_peer.values())).unit, bars))
    return found


if __name__ == "__main__":
    source = Path(sys.argv[1])
    sys.stdout.write(
        f"{draw(msgspec.json.decode(source.read_bytes(), type=IdentityReport), source.with_suffix('.svg'))}\n"
    )
