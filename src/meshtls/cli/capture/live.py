"""``meshtls capture live``: the connections of an interface, as they open and when they are over."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from pathlib import Path

import click

from meshtls.capture.analysis.connection import Connection, End, as_json
from meshtls.capture.analysis.row import bytes_of
from meshtls.capture.flow import Flow
from meshtls.capture.live.capturing import KeySource, captured
from meshtls.capture.live.following import Following, Told
from meshtls.capture.live.growing_keylog import GrowingKeyLog
from meshtls.capture.live.ring import opened_ring
from meshtls.cli.capture.live_options import capture_options, nothing_captured, stop_requested
from meshtls.cli.capture.sidecar_keys import SidecarKeys
from meshtls.cli.capture.silence import Silence
from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.errors import ConfigError

__all__ = ["live"]


@click.command()
@capture_options
@click.option("--keylog", type=click.Path(path_type=Path), help="An SSLKEYLOGFILE, which is followed.")
@click.option(
    "--sidecar",
    metavar="FILE|SOCKET|NAME",
    help="A running sidecar, by its file, its admin socket, or its name where MESHTLS_ADMIN_INTERFACE has the socket:"
    " its secrets are used, if it has insecure_keylog_file.",
)
@output_option
def live(
    interface: str,
    ports: tuple[int, ...],
    keylog: Path | None,
    sidecar: str | None,
    seconds: float | None,
    out: Output,
) -> None:
    """Show the TCP connections of an interface: when they open, and what was seen of them when they are over.

    The process needs CAP_NET_RAW and no other right; Linux only. With secrets, what is inside of TLS is shown.
    """
    if keylog is not None and sidecar is not None:
        raise ConfigError("wanted --keylog or --sidecar, got both")

    silence = Silence(interface, str(keylog or sidecar or ""), time.time_ns())

    def opened(flow: Flow) -> None:
        client, server = (str(half.address) for half in flow.halves)
        number = flow.number + 1
        record = {"event": "opened", "number": number, "client": client, "server": server}
        out.event(record, f"#{number} opened {client} -> {server}")

    def ended(one: Connection) -> None:
        record = {"event": "ended", **as_json(one)}
        for line in [_ended_text(one)] if out.as_json else _ended_text(one).split("\n"):
            out.event(record, line)
        if one.handshake is not None and not one.handshake.decrypted:
            for words in silence.without_secrets():
                out.notice(words)

    with ExitStack() as stack:
        stopped = stack.enter_context(stop_requested())
        keys: KeySource | None = None
        if keylog is not None:
            keys = stack.enter_context(closing(GrowingKeyLog(keylog)))
        elif sidecar is not None:
            keys = stack.enter_context(closing(SidecarKeys(sidecar)))
        ring = stack.enter_context(opened_ring(interface, ports))
        out.event({"event": "capturing", "interface": interface}, f"capturing {interface}")
        following = Following(ring.link_type, Told(opened, ended), keys=keys is not None)
        for piece in captured(ring, keys, seconds, stopped):
            silence.took(piece.secrets)
            following.take(piece)
            for words in silence.quiet(piece.now_ns, following.packets):
                out.notice(words)
        following.finish()
        counts = ring.counts()
    if not following.packets:
        out.notice(nothing_captured(interface))
    if counts.dropped:
        out.notice(f"{counts.dropped} packets were dropped: the capture did not keep up")


def _ended_text(one: Connection) -> str:
    shake = one.handshake
    facts = [one.protocol]
    if shake is not None:
        facts = [
            shake.version,
            shake.suite,
            shake.group,
            f"mTLS: {shake.mutual_shown}",
            "decrypted" if shake.decrypted else "",
        ]
    result = one.outcome.name if one.outcome is not None else "result not known"
    words = one.problem or one.unknown_because
    problem = f": {words}" if words else ""
    lines = [
        f"#{one.number} ended {_who(one.client)} -> {_who(one.server)}; {', '.join(filter(None, facts))};"
        f" {bytes_of(one)} bytes in {one.duration_ms:.1f} ms; {result}{problem}"
    ]
    if one.problem and one.connection_id:
        lines.append(f"#{one.number}   meshtls explain connection {one.connection_id} --sidecar FILE")
    lines += [f"#{one.number}   {each.method} {each.target} {each.status or '(no answer)'}" for each in one.requests]
    return "\n".join(lines)


def _who(end: End) -> str:
    return f"{end.address} {end.peer.spiffe_id}" if end.peer is not None and end.peer.spiffe_id else end.address
