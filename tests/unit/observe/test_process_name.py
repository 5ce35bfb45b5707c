"""Which process answers: as a line, as a record, and against the one that was wanted."""

from __future__ import annotations

import pytest

from meshtls.observe.process_name import ProcessKind, ProcessName

A = ProcessName(ProcessKind.SIDECAR, "a", "spiffe://example.org/a")
AGENT = ProcessName(ProcessKind.AGENT, "/run/agent.sock", "example.org")
SERVER = ProcessName(ProcessKind.SERVER, "/run/server.sock", "example.org")


@pytest.mark.parametrize(
    ("process", "line", "record"),
    [
        (
            A,
            "sidecar a (spiffe://example.org/a)",
            {"kind": "sidecar", "name": "a", "spiffe_id": "spiffe://example.org/a"},
        ),
        (
            AGENT,
            "agent /run/agent.sock (example.org)",
            {"kind": "agent", "socket_path": "/run/agent.sock", "trust_domain": "example.org"},
        ),
        (
            SERVER,
            "server /run/server.sock (example.org)",
            {"kind": "server", "socket_path": "/run/server.sock", "trust_domain": "example.org"},
        ),
        (
            ProcessName(ProcessKind.SIDECAR, "a (b) c", "spiffe://example.org/a"),
            "sidecar a (b) c (spiffe://example.org/a)",
            {"kind": "sidecar", "name": "a (b) c", "spiffe_id": "spiffe://example.org/a"},
        ),
    ],
)
def test_a_process_is_read_from_its_line_and_from_its_record(
    process: ProcessName, line: str, record: dict[str, object]
) -> None:
    assert str(process) == line
    assert process.record() == record
    assert ProcessName.of_line(line) == process
    assert ProcessName.of_record({**record, "version": "1"}) == process


@pytest.mark.parametrize(
    "line",
    [
        "",
        "sidecar",
        "sidecar a",
        "sidecar a ()",
        "sidecar a (spiffe://example.org/a",
        "proxy a (spiffe://example.org/a)",
        "sidecar \x1b[2J (spiffe://example.org/a)",
    ],
)
def test_another_line_names_no_process(line: str) -> None:
    assert ProcessName.of_line(line) is None


@pytest.mark.parametrize("record", [{}, {"kind": "proxy"}, {"kind": None}, {"name": "a"}])
def test_a_record_without_a_kind_names_no_process(record: dict[str, object]) -> None:
    assert ProcessName.of_record(record) is None


END = ": another process has it, or this one was started with an older file"


@pytest.mark.parametrize(
    ("found", "mismatch"),
    [
        (A, ""),
        (ProcessName(ProcessKind.SIDECAR, "a", ""), ""),
        (ProcessName(ProcessKind.SIDECAR, "", "spiffe://example.org/a"), ""),
        (
            ProcessName(ProcessKind.SIDECAR, "b", "spiffe://example.org/a"),
            f"it is answered by sidecar b (spiffe://example.org/a); wanted {A}{END}",
        ),
        (
            ProcessName(ProcessKind.SIDECAR, "a", "spiffe://example.org/b"),
            f"it is answered by sidecar a (spiffe://example.org/b); wanted {A}{END}",
        ),
        (AGENT, f"it is answered by agent /run/agent.sock (example.org); wanted {A}{END}"),
        (
            ProcessName(ProcessKind.AGENT, "a", "spiffe://example.org/a"),
            f"it is answered by agent a (spiffe://example.org/a); wanted {A}{END}",
        ),
    ],
)
def test_another_process_is_told_by_kind_name_and_identity(found: ProcessName, mismatch: str) -> None:
    assert A.mismatch(found, "it") == mismatch


@pytest.mark.parametrize(
    ("path", "is_other"),
    [("/run/agent.sock", False), ("/run/other.sock", True), ("agent.sock", False), ("", False)],
)
def test_an_absolute_path_is_no_other_than_a_relative_one(path: str, is_other: bool) -> None:
    found = ProcessName(ProcessKind.AGENT, path, "example.org")
    assert bool(AGENT.mismatch(found, "it")) is is_other
    elsewhere = ProcessName(ProcessKind.AGENT, path, "b.org")
    assert AGENT.mismatch(elsewhere, "it") == f"it is answered by {elsewhere}; wanted {AGENT}{END}"


def test_a_name_that_is_not_printable_is_the_same_after_it_was_sent() -> None:
    odd = ProcessName(ProcessKind.SIDECAR, "a\tb", "spiffe://example.org/a")
    sent = ProcessName.of_line(str(odd))
    assert sent is not None
    assert odd.mismatch(sent, "it") == ""
    other = ProcessName(ProcessKind.SIDECAR, "a\nb", "spiffe://example.org/a")
    assert other.mismatch(sent, "it") != ""
