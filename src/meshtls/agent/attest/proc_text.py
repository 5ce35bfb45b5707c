"""The text of ``/proc/PID/stat`` and ``/proc/PID/status`` (proc(5)). Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.errors import AccessError

__all__ = ["Life", "Owners", "parse_stat", "parse_status"]

_DEAD = ("Z", "X", "x")


@dataclass(frozen=True, slots=True)
class Life:
    """When a process started, in clock ticks since the machine did, and whether it still runs."""

    started: int
    running: bool


@dataclass(frozen=True, slots=True)
class Owners:
    """Effective user and group, and the supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def parse_stat(text: str) -> Life:
    """Fields 3 and 22. The second field, the program's name, may hold blanks and parentheses of its choice.

    Raises AccessError.
    """
    fields = text[text.rfind(")") + 1 :].split()
    try:
        return Life(int(fields[19]), fields[0] not in _DEAD)
    except (IndexError, ValueError) as error:
        raise AccessError(f"/proc/PID/stat: wanted a state and a start time, got {text[:80]!r}") from error


def parse_status(text: str) -> Owners:
    """The second of the four user and group IDs is the effective one. Raises AccessError."""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        uid, gid = int(lines["Uid"].split()[1]), int(lines["Gid"].split()[1])
        return Owners(uid, gid, tuple(map(int, lines["Groups"].split())))
    except (KeyError, IndexError, ValueError) as error:
        raise AccessError(f"/proc/PID/status: wanted Uid, Gid and Groups, got {text[:80]!r}") from error
