"""tshark reads each capture of the corpus, and what both print is the same: the order of records, handshake messages
and alerts of each side, what was negotiated, ports, and packets sent again.

Where they differ by their rules, the reason is in the case's row, or here for all of them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshtls.capture.analysis.watching import Watched
from meshtls.capture.events import AlertSeen, MessageSeen, RecordSeen
from meshtls.wire.side import Side
from meshtls.wire.tls import TLS_1_3, ContentType, HandshakeType, alpn_of_message, server_name_of_message
from tests.corpus.case import Made, read
from tests.corpus.corpus import CORPUS
from tests.support.require import require
from tests.support.waiting import SECONDS

Facts = dict[str, list[str]]
#: tshark's columns.
_COLUMNS = (
    "tcp.srcport",
    "tls.record.content_type",
    "tls.record.opaque_type",
    "tls.handshake.type",
    "tls.alert_message.desc",
    "tls.handshake.ciphersuite",
    "tls.handshake.extensions_server_name",
    "tls.handshake.extensions_alpn_str",
    "tcp.analysis.retransmission",
    "tcp.analysis.out_of_order",
)


def by_tshark(made: Made, directory: Path) -> tuple[dict[str, Facts], dict[str, dict[str, int]]]:
    """What tshark prints of each sender, by its port: facts, and counts of packets."""
    file, keys = directory / "capture", directory / "tshark.keys"
    file.write_bytes(made.data)
    keys.write_bytes(made.keys)
    options = ["-r", str(file), "-d", "tcp.port==443,tls", "-o", f"tls.keylog_file:{keys}", "-T", "fields"]
    options += ["-o", "tcp.reassemble_out_of_order:TRUE"]
    options += [part for column in _COLUMNS for part in ("-e", column)]
    text = subprocess.run(["tshark", *options], check=False, capture_output=True, text=True, timeout=SECONDS).stdout
    facts: dict[str, Facts] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, dict[str, int]] = defaultdict(lambda: {"retransmitted": 0, "out_of_order": 0})
    for line in text.splitlines():
        port, plain, opaque, *rest, again, late = line.split("\t")
        if not port:
            continue
        kinds, alerts, suites, name, alpn = rest
        found = facts[port]
        found["messages"] += _numbers(kinds)
        found["alerts"] += _numbers(alerts)
        if str(int(HandshakeType.SERVER_HELLO)) in _numbers(kinds):
            found["suite"] += [str(int(suites.split(",")[0], 16))]
        found["server_name"] += [name] if name else []
        found["alpn"] += alpn.split(",") if alpn else []
        found["records"] += _numbers(plain)
        found["outer_records"] += _numbers(opaque)
        counts[port]["retransmitted"] += bool(again)
        counts[port]["out_of_order"] += bool(late)
    return facts, counts


def _numbers(text: str) -> list[str]:
    return text.split(",") if text else []


def by_us(watched: Watched) -> tuple[dict[str, Facts], dict[str, dict[str, int]]]:
    """What we have of the same."""
    facts: dict[str, Facts] = defaultdict(lambda: defaultdict(list))
    counts: dict[str, dict[str, int]] = {}
    ports = {half.side: str(half.address.port) for half in watched.flow.halves}
    for half in watched.flow.halves:
        counts[ports[half.side]] = {"retransmitted": half.retransmitted, "out_of_order": half.out_of_order}
    tls = watched.conversation.tls
    for event in tls.events if tls is not None else []:
        for name, value in _facts_of(event, tls13=tls is not None and tls.version == TLS_1_3):
            facts[ports[event.side]][name].append(value)
    shake = watched.record().handshake
    if shake is not None and shake.alpn:
        facts[ports[Side.SERVER]]["alpn"].append(shake.alpn)
    return facts, counts


def _facts_of(event: object, *, tls13: bool) -> Iterator[tuple[str, str]]:
    if isinstance(event, RecordSeen):
        outer = tls13 and event.content_type == ContentType.APPLICATION_DATA
        if outer:
            yield "outer_records", str(event.content_type)
        if event.decrypted or not outer:
            yield "records", str(event.inner_type)
    elif isinstance(event, AlertSeen) and event.description >= 0:
        yield "alerts", str(event.description)
    elif isinstance(event, MessageSeen):
        yield "messages", str(event.kind)
        if event.kind == HandshakeType.SERVER_HELLO:
            suite_at = 39 + event.data[38]
            yield "suite", str(int.from_bytes(event.data[suite_at : suite_at + 2], "big"))
        if event.kind == HandshakeType.CLIENT_HELLO:
            name = server_name_of_message(event.data)
            yield from [("server_name", name)] if name else []
            yield from (("alpn", one.decode()) for one in alpn_of_message(event.data))


def differences(made: Made, directory: Path) -> dict[str, tuple[object, object]]:
    """By its name and the sender's port, what we tell and what tshark tells, where these are not the same."""
    (watched,) = read(made).watched
    ours, our_counts = by_us(watched)
    theirs, their_counts = by_tshark(made, directory)
    assert ours or theirs or watched.conversation.tls is None, "neither tells anything"
    found: dict[str, tuple[object, object]] = {}
    for port, counts in our_counts.items():
        for name in sorted({*ours[port], *theirs[port]}):
            if ours[port][name] != theirs[port][name]:
                found[f"{name} {port}"] = ours[port][name], theirs[port][name]
        if counts != their_counts[port]:
            found[f"counts {port}"] = counts, their_counts[port]
    return found


@pytest.mark.parametrize("name", CORPUS)
def test_tshark_tells_the_same_of_a_capture(name: str, tmp_path: Path) -> None:
    require("tshark", shutil.which("tshark") is not None, "no tshark")
    case = CORPUS[name]
    found = differences(case.make(tmp_path), tmp_path)
    assert set(found) == set(case.tshark), found
