"""Real traffic between two networks, captured at both ends of a link that loses, repeats, delays and reorders packets,
and of one that does none of this: what we read of it is what the programs sent, and what tshark reads.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.analysis.connection import Connection
from meshtls.capture.files.reading import read_packets
from meshtls.capture.files.writing import PcapWriter
from meshtls.capture.keylog import KeyLog
from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from meshtls.wire.tls import MAX_RECORD
from tests.integration.capture.network_captures import (
    Delivered,
    data_frames,
    delivered,
    followed,
    trimmed,
    tshark,
    tunnels,
)
from tests.integration.capture.network_programs import require_programs
from tests.integration.capture.network_talks import PORTS, RUN_SECONDS
from tests.integration.sidecar.mesh import A, B
from tests.support.own_network import in_own_network
from tests.support.two_networks import IN_NAMESPACES

pytestmark = pytest.mark.timeout(RUN_SECONDS + 200)

_TALKS = "tests.integration.capture.network_talks"
_WEB = ("spiffe://a.test/client", "spiffe://a.test/web")
#: Of each talk: SPIFFE IDs, protocol, connections.
_EXPECTED = {
    "sidecars": ((str(A), str(B)), "TLS 1.3", 4),
    "tunnel": ((str(A), str(B)), "TLS 1.3", 1),
    "nginx, TLS 1.3": (_WEB, "TLS 1.3", 1),
    "nginx, TLS 1.2": (_WEB, "TLS 1.2", 1),
    "Envoy, HTTP/2": (_WEB, "TLS 1.3", 1),
    "plaintext": ((None, None), "", 1),
}
_STREAM_AND_PORT = ("-T", "fields", "-e", "tcp.stream", "-e", "tcp.srcport")


class Site(NamedTuple):
    """The captures of one run, and what was said in it. ``tally``: what the link did, by port, side and fate."""

    directory: Path
    lossy: bool
    said: dict[str, list[tuple[bytes, bytes]]]
    tally: Counter[tuple[int, str, str]]

    def file(self, end: Side) -> Path:
        return self.directory / f"{end.value}.pcap"

    @property
    def keylog(self) -> Path:
        return self.directory / "keys.log"

    def arrived(self, port: int, side: Side) -> int:
        """Packets of this side of the talk at this port that came out of the link."""
        gone = ("lost", "copy lost")
        return sum(
            count for (at, of, fate), count in self.tally.items() if (at, of) == (port, side.value) and fate not in gone
        )

    def entered(self, port: int, side: Side) -> int:
        """Those that it was given."""
        copies = ("copied", "copy lost")
        return sum(
            count
            for (at, of, fate), count in self.tally.items()
            if (at, of) == (port, side.value) and fate not in copies
        )


@pytest.fixture(scope="module", params=["veth", "lossy"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    require_programs(tun=request.param == "lossy")
    directory = tmp_path_factory.mktemp(request.param)
    in_own_network(_TALKS, directory, request.param, "7", prefix=IN_NAMESPACES, seconds=RUN_SECONDS)
    told = json.loads((directory / "said.json").read_text())
    said: dict[str, list[tuple[bytes, bytes]]] = {}
    for one in told["said"]:
        said.setdefault(one["talk"], []).append((bytes.fromhex(one["client"]), bytes.fromhex(one["server"])))
    for end in Side:
        trimmed(directory / f"{end.value}.pcap", bytes.fromhex(told["mark"]))
    tally = Counter({(port, side, fate): count for port, side, fate, count in told["tally"]})
    return Site(directory, request.param == "lossy", said, tally)


def _at(found: Sequence[Delivered], talk: str) -> list[Delivered]:
    return [one for one in found if one.port == PORTS[talk]]


@pytest.mark.parametrize("end", Side)
def test_the_bytes_of_the_programs_are_delivered_whole_and_in_order(site: Site, end: Side) -> None:
    found = delivered(site.file(end), site.keylog)
    assert {talk: len(_at(found, talk)) for talk in PORTS} == {talk: row[2] for talk, row in _EXPECTED.items()}
    assert sorted(one.inside.both() for one in _at(found, "sidecars")) == sorted(site.said["sidecars"])
    [tunnel] = _at(found, "tunnel")
    streams = tunnels(tunnel)
    assert sorted(each.both() for _, each in streams) == sorted(site.said["tunnel"])
    assert {(exchange.method, exchange.status, exchange.end) for exchange, _ in streams} == {
        ("CONNECT", 200, "complete")
    }
    for talk in ("nginx, TLS 1.3", "nginx, TLS 1.2", "plaintext"):
        [one] = _at(found, talk)
        [(upload, body)] = site.said[talk]
        client, server = (one.tcp if talk == "plaintext" else one.inside).both()
        head, _, after = client.partition(b"\r\n\r\n")
        assert head.startswith(f"PUT /put/{PORTS[talk]} HTTP/1.1\r\n".encode())
        assert after.startswith(upload + b"GET /body HTTP/1.1\r\n")
        assert server.endswith(b"\r\n\r\n" + body)
    [envoy] = _at(found, "Envoy, HTTP/2")
    sent = [data_frames(envoy.inside.sent(side), preface=side is Side.CLIENT) for side in Side]
    assert [tuple(sent)] == site.said["Envoy, HTTP/2"]


@pytest.mark.parametrize("end", Side)
def test_tshark_has_the_same_bytes_of_tcp_and_inside_of_tls(site: Site, end: Side) -> None:
    file = site.file(end)
    found = delivered(file, site.keylog)
    assert followed(file, site.keylog, found, "tcp") == {one.flow.number: set(one.tcp.both()) for one in found}
    tls = [one for one in found if one.port != PORTS["plaintext"]]
    assert followed(file, site.keylog, tls, "tls") == {one.flow.number: set(one.inside.both()) for one in tls}


@pytest.mark.parametrize("end", Side)
def test_packets_are_counted_as_the_link_and_tshark_count_them(site: Site, end: Side) -> None:
    columns = (line.split("\t") for line in tshark(site.file(end), *_STREAM_AND_PORT).splitlines())
    counted = Counter((int(stream), port) for stream, port in columns if stream)
    ours: Counter[tuple[int, Side]] = Counter()
    late: Counter[Side] = Counter()
    for one in delivered(site.file(end), site.keylog):
        for half in one.flow.halves:
            packets = half.packets + half.duplicated
            assert packets == counted[one.flow.number, str(half.address.port)]
            assert half.lost_bytes == half.conflicts == half.strange == 0
            ours[one.port, half.side] += packets
            late[half.side] += half.retransmitted + half.out_of_order
    if site.lossy:
        assert ours == {at: (site.entered if at[1] is end else site.arrived)(*at) for at in ours}
        assert min(late.values()) > 0


@pytest.mark.parametrize("end", Side)
@pytest.mark.parametrize("with_keys", [True, False], ids=["keys", "no keys"])
def test_the_analysis_has_who_talked_to_whom_and_no_failure(site: Site, end: Side, with_keys: bool) -> None:
    found = analyzed(site.file(end), site.keylog if with_keys else None)
    for talk, (ids, version, count) in _EXPECTED.items():
        ours = [one for one in found if one.server.address.endswith(f":{PORTS[talk]}")]
        assert len(ours) == count
        for one in ours:
            assert one.outcome in (Outcome.OK, None), (talk, one.outcome, one.problem)
            assert one.client.lost_bytes + one.server.lost_bytes == 0
            assert one.from_start
            if talk == "plaintext":
                assert one.protocol == "HTTP/1.1"
                continue
            assert one.handshake is not None
            assert (one.handshake.version, one.handshake.complete) == (version, True)
            shown = with_keys or version == "TLS 1.2"
            assert tuple(end.peer.spiffe_id if end.peer else None for end in (one.client, one.server)) == (
                ids if shown else (None, None)
            )
            assert one.handshake.mutual == ("yes" if shown else "unknown")


def analyzed(file: Path, keylog: Path | None) -> list[Connection]:
    """The records of a file."""
    keys = KeyLog(keylog.read_bytes()) if keylog is not None else None
    with file.open("rb") as stream:
        analysis = Analysis(stream, keys)
        found = list(analysis)
    assert analysis.error is None
    return found


# -- captures that miss packets --


def thinned(file: Path, out: Path, seed: int) -> None:
    """Leave out one packet in forty."""
    chance = random.Random(seed)  # noqa: S311  # the same packets of the same file
    with file.open("rb") as stream, out.open("wb") as written:
        packets = list(read_packets(stream))
        writer = PcapWriter(written, packets[0].link_type)
        for one in packets:
            if chance.random() >= 1 / 40:
                writer.packet(one.time_ns, one.data, one.original_length)


def test_bytes_that_the_capture_misses_are_told_one_by_one_and_the_rest_is_read(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "thin.pcap"
    whole = {one.flow.client.address: one for one in delivered(site.file(Side.SERVER), site.keylog)}
    lost_bytes = decrypted = 0
    for seed in range(3):  # one of them may take acknowledgements only
        thinned(site.file(Side.SERVER), file, seed)
        found = delivered(file, site.keylog)
        assert {one.flow.client.address for one in found} == set(whole)
        for one in found:
            for side in Side:
                _check_missed(whole[one.flow.client.address], one, side)
                decrypted += bool(one.inside.sent(side))
        lost = {
            str(flow.client.address): [flow.client.lost_bytes, flow.server.lost_bytes]
            for flow in (one.flow for one in found)
        }
        again = analyzed(file, site.keylog)
        assert {one.client.address: [one.client.lost_bytes, one.server.lost_bytes] for one in again} == lost
        lost_bytes += sum(map(sum, lost.values()))
    assert lost_bytes > 0
    assert decrypted > 0


def _check_missed(whole: Delivered, one: Delivered, side: Side) -> None:
    """All pieces are in their places, and no more is unread than the lost bytes and the records that they cut."""
    sent, gaps, position = whole.tcp.sent(side), one.tcp.gaps[side], 0
    for piece, gap in zip(one.tcp.pieces[side], [*gaps, 0], strict=True):
        assert sent[position : position + len(piece)] == piece
        position += len(piece) + gap
    # What is lost at the end has no packet behind it: an acknowledgement tells of it, and counts a FIN.
    assert position <= len(sent) + 1
    half = one.flow.client if side is Side.CLIENT else one.flow.server
    assert half.lost_bytes == sum(gaps)
    inside, position = whole.inside.sent(side), 0
    for piece in one.inside.pieces[side]:
        position = inside.index(piece, position) + len(piece)
    if read := len(one.inside.sent(side)):  # a lost hello costs its connection
        missing = len(sent) - len(one.tcp.sent(side))
        assert len(inside) - read <= missing + 2 * MAX_RECORD * (len(gaps) + 1)
