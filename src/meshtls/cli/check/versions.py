"""Whether a running process has the version of this command: two versions may read a file or a message differently."""

from __future__ import annotations

from importlib.metadata import version

from meshtls.cli.check.finding import Claim, Finding, passed, warning

__all__ = ["version_finding"]


def version_finding(who: str, theirs: str) -> Finding:
    """Whether a process has our version. ``who``: what it is, in words."""
    ours = version("meshtls")
    same = Claim(f"{who} has the version of this command", f"{who} has another version than this command")
    if theirs == ours:
        return passed(same, ours)
    return warning(same, f"it has {theirs}, and this is {ours}", f"use the command of the version of {who}")
