"""``meshtls capture``: its verbs. Each is imported when it is called."""

from __future__ import annotations

import click

from meshtls.cli.verbs import VerbGroup

__all__ = ["capture"]

_VERBS = {
    "record": ("record", "Write the packets of an interface to a file, with TLS secrets."),
}


@click.group(cls=VerbGroup, package="meshtls.cli.capture", verbs=_VERBS)
def capture() -> None:
    """What is on the wire: capture it, and read what was captured."""
