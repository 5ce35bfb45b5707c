"""``meshtls capture record`` on a real interface, in a network namespace; tshark and our reader read what it wrote."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from meshtls.capture.analysis.analyzing import Analysis
from meshtls.capture.files.packet import Packet
from meshtls.capture.files.reading import CaptureReader, read_packets
from meshtls.capture.links import ip_header
from tests.integration.capture.live_talks import REQUEST, RESPONSE
from tests.integration.sidecar.mesh import A, B
from tests.support.own_network import OWN_USER, in_own_network
from tests.support.require import require, succeeds

_TALKS = "tests.integration.capture.live_talks"


def _read(file: Path) -> tuple[CaptureReader, list[Packet]]:
    with file.open("rb") as stream:
        reader = read_packets(stream)
        return reader, list(reader)


def _no_packet_twice(packets: list[Packet]) -> bool:
    """What TCP sends again has another identification of IP, or none and other timestamps."""
    seen = [one.data[ip_header(one.link_type, one.data)[1] :] for one in packets]
    return len(set(seen)) == len(seen)


def _tshark(file: Path, *options: str) -> str:
    require("tshark", shutil.which("tshark") is not None, "no tshark")
    command = ["tshark", "-r", str(file), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("version", ["2", "3"])
def test_a_recording_with_a_key_log_opens_decrypted_in_tshark_which_is_given_no_keys(
    tmp_path: Path, version: str
) -> None:
    result = json.loads(in_own_network(_TALKS, "tls", tmp_path, version))
    file = tmp_path / "a.pcapng"
    reader, packets = _read(file)
    assert (reader.error, reader.interfaces[0].name, reader.interfaces[0].dropped) == (None, "lo", 0)
    assert (result["code"], result["packets"], result["dropped"]) == (0, len(packets), 0)
    assert (result["secrets"], stat.S_IMODE(file.stat().st_mode)) == (1 if version == "2" else 5, 0o600)
    assert _no_packet_twice(packets), "each packet of the loopback interface is in the file once"
    ports = _tshark(file, "-Y", "tcp.flags.syn==1 and tcp.flags.ack==0", "-T", "fields", "-e", "tcp.dstport").split()
    [port] = set(ports)
    text = _tshark(file, "-d", f"tcp.port=={port},tls", "-q", "-z", "follow,tls,raw,0")
    lines = "".join(line.strip() for line in text.splitlines())
    assert (REQUEST.hex() in lines, RESPONSE.hex() in lines) == (True, True)


def test_only_packets_of_the_ports_are_recorded_over_both_versions_of_ip(tmp_path: Path) -> None:
    ports, _ = map(json.loads, in_own_network(_TALKS, "filtered", tmp_path).splitlines())
    shown = _tshark(tmp_path / "a.pcapng", "-T", "fields", "-e", "ip.version", "-e", "tcp.port", "-E", "occurrence=a")
    seen = {
        (version, port)
        for line in shown.splitlines()
        for version, both in [line.split("\t")]
        for port in both.split(",")
    }
    assert {one for one in seen if one[1] in ports} == {("4", ports[0]), ("6", ports[2])}
    assert "udp" not in _tshark(tmp_path / "a.pcapng", "-T", "fields", "-e", "frame.protocols")


def test_a_recording_ends_at_its_number_of_packets(tmp_path: Path) -> None:
    result = json.loads(in_own_network(_TALKS, "limited", tmp_path, "--packets", "3"))
    assert (result["code"], result["packets"], result["ended"]) == (0, 3, "the file has its packets")
    assert len(_read(tmp_path / "a.pcapng")[1]) == 3


def test_a_recording_ends_before_the_file_is_larger_than_its_size(tmp_path: Path) -> None:
    result = json.loads(in_own_network(_TALKS, "limited", tmp_path, "--size", "128KiB"))
    reader, packets = _read(tmp_path / "a.pcapng")
    assert (result["code"], result["ended"], reader.error) == (0, "the file has its size", None)
    assert len(packets) == result["packets"] > 3
    assert (tmp_path / "a.pcapng").stat().st_size <= 128 << 10


def test_a_recording_that_has_room_for_no_packet_or_sees_none_says_so(tmp_path: Path) -> None:
    full, silent, live = map(json.loads, in_own_network(_TALKS, "no_room", tmp_path).splitlines())
    file = tmp_path / "a.pcapng"
    assert full == [
        1,
        f"{file}: 0 packets and 0 TLS secrets; the file has its size",
        f"meshtls: {file}: no packet had room: the secrets of the key log take the whole size: give a larger --size\n",
    ]
    notice = "meshtls: no TCP packets of lo were captured: wrong interface or port?\n"
    assert silent == [0, f"{tmp_path / 'b.pcapng'}: 0 packets and 0 TLS secrets; its time is over", notice]
    assert live == [0, "capturing lo", notice]


def test_a_recording_whose_first_packet_is_larger_than_its_size_says_so(tmp_path: Path) -> None:
    code, told = json.loads(in_own_network(_TALKS, "late", tmp_path))
    words = r"no packet had room: the first packet has (\d{4,5}) bytes: give a larger --size"
    found = re.fullmatch(f"meshtls: {re.escape(str(tmp_path))}/a.pcapng: {words}\n", told)
    assert (code, found is not None and int(found[1]) > 4096 - 256 - 40) == (1, True), told


def test_a_recording_that_cannot_be_written_ends_with_the_reason(tmp_path: Path) -> None:
    device, full = map(json.loads, in_own_network(_TALKS, "unwritable", tmp_path).splitlines())
    assert device == [
        2,
        "",
        "meshtls: /dev/full: wanted a new file, or an older capture to replace, got a device, which is left as it is:"
        " choose another name\n",
    ]
    assert full == [2, f"meshtls: {tmp_path / 'a.pcapng'}: wanted to write packets: File too large\n"]


def test_a_recording_of_any_interface_has_each_packet_of_the_loopback_interface_once(tmp_path: Path) -> None:
    result = json.loads(in_own_network(_TALKS, "tls", tmp_path, "3", "any"))
    reader, packets = _read(tmp_path / "a.pcapng")
    assert (result["code"], result["packets"], reader.interfaces[0].name) == (0, len(packets), "any")
    file = tmp_path / "a.pcapng"
    with file.open("rb") as stream:
        [one] = list(Analysis(stream))
    assert _no_packet_twice(packets)
    assert (one.client.application_bytes, one.server.application_bytes) == (len(REQUEST), len(RESPONSE))
    assert one.handshake is not None
    assert one.handshake.decrypted


def test_packets_that_find_no_room_in_the_ring_are_counted(tmp_path: Path) -> None:
    counts = json.loads(in_own_network(_TALKS, "flooded", tmp_path))
    assert counts["dropped"] > 0
    assert counts["kept"] == counts["received"] - counts["dropped"]


def test_without_the_right_to_capture_the_refusal_says_how_to_get_it(tmp_path: Path) -> None:
    require("namespaces", succeeds((*OWN_USER, "true")), "no user namespaces")
    command = [*OWN_USER, sys.executable, "-m", "meshtls", "capture", "record", "-i", "lo", "--write", "a.pcapng"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "meshtls: wanted the capability CAP_NET_RAW to capture packets, which this process does not have: run it by"
        " `setpriv --ambient-caps +net_raw --inh-caps +net_raw meshtls ...` as root, give a copy of this Python that"
        " right by `setcap cap_net_raw+ep FILE`, or capture within a network namespace of your own (`unshare -Urn`)\n",
    )
    assert not (tmp_path / "a.pcapng").exists()


def test_live_shows_a_connection_of_our_sidecar_decrypted_by_the_keys_of_its_admin_socket(tmp_path: Path) -> None:
    opened, ended = map(json.loads, in_own_network(_TALKS, "followed", tmp_path, "keys").splitlines())
    assert (opened["event"], opened["number"], ended["number"]) == ("opened", 1, 1)
    assert ended["client"]["address"] == opened["client"]
    assert ended["handshake"]["decrypted"] is True
    assert ended["handshake"]["mutual"] == "yes"
    assert (ended["client"]["peer"]["spiffe_id"], ended["server"]["peer"]["spiffe_id"]) == (str(A), str(B))


def test_live_shows_what_can_be_seen_of_it_without_keys(tmp_path: Path) -> None:
    _, ended = map(json.loads, in_own_network(_TALKS, "followed", tmp_path, "none").splitlines())
    assert (ended["handshake"]["version"], ended["handshake"]["decrypted"]) == ("TLS 1.3", False)
    assert ended["client"]["peer"] is None


def test_a_sidecar_that_keeps_no_secrets_gives_none(tmp_path: Path) -> None:
    assert json.loads(in_own_network(_TALKS, "followed", tmp_path, "refused")) == {"code": 1}
