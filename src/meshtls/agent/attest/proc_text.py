"""Parses ``/proc/PID/stat`` and ``/proc/PID/status`` (proc(5)), and the lines and names of any file of ``/proc``. Pure.

The input is hostile: the owner of a program, path or cgroup chooses its name freely. So a line ends at the line feed
alone, and a name is text only if it is UTF-8 without control characters.
"""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.errors import AccessError
from meshtls.printable import printable

__all__ = ["Life", "Owners", "lines_of", "parse_stat", "parse_status", "text_of"]

_DEAD = (b"Z", b"X", b"x")


@dataclass(frozen=True, slots=True)
class Life:
    """When a process started, in clock ticks since boot, and whether it still runs."""

    started: int
    running: bool


@dataclass(frozen=True, slots=True)
class Owners:
    """Effective user and group, and the supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def lines_of(content: bytes) -> list[bytes]:
    """The lines without their line feeds; bytes after the last line feed are a line, too."""
    lines = content.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def text_of(name: bytes) -> str | None:
    """The name as text; None if it is not UTF-8 or has an unprintable character."""
    try:
        text = name.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None


def parse_stat(content: bytes) -> Life:
    """Fields 3 and 22. The second field, the program's name, may hold blanks and parentheses of its choice.

    Raises AccessError.
    """
    fields = content[content.rfind(b")") + 1 :].split()
    try:
        return Life(int(fields[19]), fields[0] not in _DEAD)
    except (IndexError, ValueError) as error:
        raise AccessError(f"/proc/PID/stat: wanted a state and a start time, got {printable(content[:80])}") from error


def parse_status(content: bytes) -> Owners:
    """The second of the four user and group IDs is the effective one. Raises AccessError."""
    lines = dict(line.split(b":", 1) for line in lines_of(content) if b":" in line)
    try:
        uid, gid = int(lines[b"Uid"].split()[1]), int(lines[b"Gid"].split()[1])
        return Owners(uid, gid, tuple(map(int, lines[b"Groups"].split())))
    except (KeyError, IndexError, ValueError) as error:
        raise AccessError(f"/proc/PID/status: wanted Uid, Gid and Groups, got {printable(content[:80])}") from error
