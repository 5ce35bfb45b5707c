"""Facts are about one process and the user that connected, or there are none."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from meshtls.agent.attest.facts import read_facts, started
from meshtls.errors import AccessError
from meshtls.rpc.peer_credentials import Credentials

CALLER = Credentials(42, 1000, 100)
START = 4711


def stat(start: int = START, state: str = "S") -> bytes:
    return f"42 (web) {state} 1 2 2 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {start} 999".encode()


def status(uid: int = 1000, gid: int = 100) -> bytes:
    return f"Name:\tweb\nUid:\t0\t{uid}\t0\t0\nGid:\t0\t{gid}\t0\t0\nGroups:\t24\n".encode()


class Files:
    """Implements ProcessFiles with the files of a table; a value that is an error is raised."""

    def __init__(self, binary: Path, **changed: bytes | OSError) -> None:
        good: Mapping[str, bytes | OSError] = {
            "stat": stat(),
            "status": status(),
            "cgroup": b"0::/\n",
            "exe": b"/bin/web",
        }
        self._content = {**good, **changed}
        self._binary = binary
        self.opened: list[int] = []

    def content(self, name: str) -> bytes:
        content = self._content[name]
        if isinstance(content, OSError):
            raise content
        return content

    link = content

    def program(self) -> int:
        self.content("exe")
        self.opened.append(os.open(self._binary, os.O_RDONLY))
        return self.opened[-1]


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    file = tmp_path / "web"
    file.write_bytes(b"a program")
    return file


def test_facts_of_a_process_that_stays_itself(binary: Path) -> None:
    files = Files(binary)
    assert started(files, CALLER) == START
    facts = read_facts(files, CALLER, START)
    assert (facts.owners.uid, facts.owners.gid, facts.owners.groups) == (1000, 100, (24,))
    assert (facts.path, facts.cgroup, facts.program) == (b"/bin/web", b"0::/\n", files.opened[0])
    os.close(files.opened[0])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("stat", stat(start=4712), "pid 42 (uid 1000, gid 100): another process has its number now"),
        ("stat", stat(state="Z"), "pid 42 (uid 1000, gid 100): it has ended"),
        (
            "stat",
            ProcessLookupError(3, "No such process"),
            "pid 42 (uid 1000, gid 100): it has ended, or /proc hides it: No such process",
        ),
        ("status", status(uid=0), "pid 42 (uid 1000, gid 100): it runs as uid 0, gid 100 now"),
        ("status", status(gid=0), "pid 42 (uid 1000, gid 100): it runs as uid 1000, gid 0 now"),
    ],
    ids=["number reused", "zombie", "gone", "another user", "another group"],
)
def test_a_replaced_process_gives_no_facts_and_leaves_no_descriptor(
    binary: Path, name: str, content: bytes | OSError, message: str
) -> None:
    files = Files(binary, **{name: content})
    with pytest.raises(AccessError) as raised:
        read_facts(files, CALLER, START)
    assert str(raised.value) == message
    for descriptor in files.opened:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file")])
@pytest.mark.parametrize(
    ("name", "gone"),
    [("exe", lambda facts: (facts.path, facts.program)), ("cgroup", lambda facts: (facts.cgroup,))],
)
def test_an_unreadable_fact_is_left_out(
    binary: Path, error: OSError, name: str, gone: Callable[[object], tuple[object, ...]]
) -> None:
    files = Files(binary, **{name: error})
    facts = read_facts(files, CALLER, START)
    assert set(gone(facts)) == {None}
    assert facts.owners.uid == 1000
    if facts.program is not None:
        os.close(facts.program)
