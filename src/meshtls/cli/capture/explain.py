"""``meshtls capture explain``: the first thing that went wrong, and the command that mends it."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import click

from meshtls.address import Address
from meshtls.capture.analysis.connection import Connection
from meshtls.cli.capture.reading import Captures, capture_options, counted
from meshtls.cli.options import output_option
from meshtls.cli.output import Output
from meshtls.errors import RequestError

__all__ = ["explain"]

_MS = 1_000_000


@click.command()
@click.argument("file", metavar="FILE|-")
@capture_options
@click.option("--connection", "number", type=click.IntRange(1), metavar="N", help="Connection N, fine or not.")
@output_option
def explain(file: str, keylog: Path | None, bundle: Path | None, number: int | None, out: Output) -> int:
    """Explain the first connection that failed, or else likely did: what went wrong, on which side, and what to do.

    Exit code 1: a file is damaged.
    """
    captures = Captures(out, keylog, bundle)
    chosen: Connection | None = None
    failed = total = unknown = 0
    for one in captures.read(file):
        total += 1
        failed += bool(one.problem)
        unknown += bool(one.unknown_because)
        wanted = one.number == number if number is not None else bool(one.problem)
        if wanted and (chosen is None or _comes_before(one, chosen)):
            chosen = one
    if chosen is None and number is not None:
        raise RequestError(f"--connection {number}: the capture has {counted(total)}")
    if chosen is None:
        words = f"nothing went wrong in {counted(total)}"
        if not total:
            words = "there is no connection to explain"
        elif unknown:
            words = f"nothing is seen to have gone wrong in {counted(total)}; {_not_known(unknown, total)}"
        out.record({"connections": total, "problem": "", "unknown": unknown}, words)
        return captures.exit_code
    out.record(_record(chosen) | ({"connections_with_problems": failed} if failed > 1 else {}))
    return captures.exit_code


def _not_known(count: int, total: int) -> str:
    if count == total:
        return "its result is not known" if total == 1 else "none of their results is known"
    return "the result of 1 of them is not known" if count == 1 else f"the results of {count} of them are not known"


def _comes_before(one: Connection, other: Connection) -> bool:
    """What is proven comes first, then what explains the other, then what began first."""
    if (one.outcome is None) != (other.outcome is None):
        return other.outcome is None
    if _explains(one, other) or _explains(other, one):
        return _explains(one, other)
    return one.number < other.number


def _explains(call: Connection, caller: Connection) -> bool:
    """Whether the plaintext call of ``caller`` likely failed since this call of its sidecar did: it is TLS of the host
    that was called, and began while the caller waited.
    """
    if call.protocol != "TLS" or caller.protocol == "TLS" or caller.server.tcp_bytes:
        return False
    host = Address.parse(caller.server.address).host
    same_host = ip_address(host).is_loopback or host == Address.parse(call.client.address).host
    waited_until = caller.start_ns + int(caller.duration_ms * _MS)
    return same_host and caller.start_ns <= call.start_ns <= waited_until


def _record(one: Connection) -> dict[str, object]:
    guessed = {"roles": "guessed by the ports: client and server may be the other way round"}
    return {
        "connection": one.number,
        "client": one.client.address,
        "server": one.server.address,
        "connection_id": one.connection_id,
        "outcome": one.outcome.name if one.outcome is not None else "",
        "outcome_words": one.outcome.value if one.outcome is not None else "",
        "problem": one.problem or "none",
        "unknown_because": one.unknown_because,
        "advice": one.advice,
        "mutual_tls": one.handshake.mutual_reason if one.handshake is not None else "",
    } | (guessed if one.roles_guessed else {})
