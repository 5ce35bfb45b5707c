"""The benchmark of captures makes real sessions, and each program reads all of them; speed is not asserted."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from bench.capture_measuring import measure_captures
from bench.capture_programs import PROGRAMS, TSHARK, CaptureError, CaptureProgram, cpu_seconds
from bench.capture_reading import analyzed, recorded, streamed
from bench.capture_traffic import MIXES, Written, write_capture
from bench.certificates import make_certs
from tests.support.require import require
from tests.support.waiting import SECONDS

SHORT = ("handshakes, TLS 1.3", "handshakes, TLS 1.2", "minimum frames", "mixed")


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Written]]:
    """The captures, with their files; each of at least one connection."""
    directory = tmp_path_factory.mktemp("captures")
    certs = make_certs(directory)
    files = {name: directory / f"{number}.pcap" for number, name in enumerate(SHORT)}
    return {name: (file, write_capture(file, MIXES[name], 100, certs)) for name, file in files.items()}


@pytest.mark.parametrize("name", SHORT)
def test_each_connection_of_a_mix_is_a_complete_session(name: str, captures: dict[str, tuple[Path, Written]]) -> None:
    file, written = captures[name]
    records: list[dict[str, object]] = []
    count, fields = analyzed(io.BytesIO(file.read_bytes()), records.append)
    assert (count, len(records)) == (written.packets, written.connections)
    assert fields > 10 * written.connections
    for record in records:
        shake = record["handshake"]
        assert isinstance(shake, dict)
        assert (shake["complete"], shake["server_name"]) == (True, "server.bench.test")
        assert shake["version"] == ("TLS 1.2" if "1.2" in name else "TLS 1.3")
        assert (record["from_start"], record["troubles"]) == (True, ())


def test_each_way_reads_all_packets_of_a_capture(captures: dict[str, tuple[Path, Written]]) -> None:
    file, written = captures["minimum frames"]
    assert min(written.sizes) == 60
    assert sum(size * count for size, count in written.sizes.items()) == written.wire_bytes
    count, stream_bytes = streamed(io.BytesIO(file.read_bytes()), written.packets)
    assert count == written.packets
    assert 0 < stream_bytes < written.wire_bytes - 54 * count
    count, records = recorded(io.BytesIO(file.read_bytes()), written.packets)
    assert count == written.packets
    assert records > 200 * written.connections


def test_tshark_finds_nothing_wrong_in_a_capture(captures: dict[str, tuple[Path, Written]]) -> None:
    require("tshark", shutil.which("tshark") is not None, "no tshark")
    for name, (file, written) in captures.items():
        options = ["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "fields"]
        wrong = "tcp.analysis.flags || tcp.checksum.status == 0 || ip.checksum.status == 0 || _ws.malformed"
        found = subprocess.run(
            ["tshark", "-n", "-r", str(file), *options, "-e", "frame.number", wrong],
            capture_output=True,
            check=True,
            timeout=SECONDS,
        )
        assert (name, found.stdout) == (name, b"")
        hellos = subprocess.run(
            ["tshark", "-n", "-r", str(file), "tls.handshake.type == 2"],
            capture_output=True,
            check=True,
            timeout=SECONDS,
        )
        assert len(hellos.stdout.splitlines()) == written.connections


def test_each_program_that_is_there_is_measured(tmp_path: Path) -> None:
    require("tshark", not PROGRAMS[TSHARK].missing, PROGRAMS[TSHARK].missing)
    programs = [one for one in PROGRAMS.values() if not one.missing]
    seen: list[str] = []
    report = measure_captures(
        programs,
        mixes=["handshakes, TLS 1.3"],
        rounds=1,
        packets=100,
        certs=make_certs(tmp_path),
        directory=tmp_path,
        progress=lambda cell: seen.append(cell.program),
    )
    assert seen == [one.name for one in programs]
    assert [cell.error for cell in report.cells] == [None] * len(programs)
    assert all(cell.start_seconds for cell in report.cells)


def test_a_program_that_fails_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    program = CaptureProgram("a program", ("sh", "-c", "echo no such thing >&2; exit 3"))
    with pytest.raises(CaptureError, match=r"a program: exit code 3: no such thing"):
        cpu_seconds(program, tmp_path / "none", 1)
