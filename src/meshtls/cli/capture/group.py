"""``meshtls capture``: its verbs. Each is imported when it is called."""

from __future__ import annotations

import click

from meshtls.cli.verbs import VerbGroup

__all__ = ["capture"]

_VERBS = {
    "live": ("live", "Show the connections of an interface as they go."),
    "record": ("record", "Write the packets of an interface to a file, with TLS secrets."),
    "analyze": ("analyze", "List connections: identities, handshake, cost, result."),
    "stats": ("stats", "Totals by version, suite, group and result."),
    "explain": ("explain", "The first thing that went wrong, and what to do."),
    "diff": ("diff", "Compare the conversations of two captures."),
}


@click.group(cls=VerbGroup, package="meshtls.cli.capture", verbs=_VERBS)
def capture() -> None:
    """Capture packets, and read captures of tcpdump, Wireshark and others: pcap and pcapng, also gzipped, or standard
    input ("-").

    A file that is damaged is read to where it breaks, which is said on standard error; the exit code is then 1. Secrets
    of TLS are taken from the file itself, if it has them, and from --keylog.
    """
