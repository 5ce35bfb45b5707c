"""Whether a running process has the version of this command: two versions may read a file or a message differently."""

from __future__ import annotations

from importlib.metadata import version

from meshtls.admin.asking import Interface, ask, processes_at
from meshtls.admin.keys import AdminKeys
from meshtls.cli.check.finding import Checks, Finding, passed, warning
from meshtls.errors import ConfigError, RequestError

__all__ = ["running_versions", "version_finding"]


def version_finding(who: str, theirs: str) -> Finding:
    """``who``: the process that told its version."""
    same, ours = f"{who} has the version of this command", version("meshtls")
    if theirs == ours:
        return passed(same, ours)
    return warning(same, f"it has {theirs}, and this is {ours}", f"use the command of the version of {who}")


async def running_versions(admin: AdminKeys | None, who: str) -> Checks:
    """Of the process with this admin interface, or of each of its workers; none where it can't be asked."""
    for one in _interfaces(admin):
        try:
            told = await ask(one, "/server_info")
        except (ConfigError, RequestError):
            continue  # its probes and its socket have checks of their own
        yield version_finding(f"{who} at {one.name}", str(told.get("version", "none")))


def _interfaces(admin: AdminKeys | None) -> list[Interface]:
    if admin is None:
        return []
    if admin.socket is not None:
        return processes_at(admin.socket)
    return [Interface(admin.listen)] if admin.listen is not None else []
