"""The process that a file configures, as it runs: what its admin interface tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from meshtls.admin.asking import Interface, ask, processes_at
from meshtls.admin.keys import AdminKeys
from meshtls.errors import ConfigError, RequestError
from meshtls.observe.process_name import ProcessName

__all__ = ["Running", "running_process"]

#: The names of keys whose values are addresses that a process listens on; ``metrics`` and ``health`` may be sections.
_KEYS = ("health", "metrics")


@dataclass(frozen=True, slots=True)
class Running:
    """- ``runs``: something answers there, or would if this user were permitted to ask.
    - ``versions``: of each process that was asked, its name and its version.
    - ``listening``: the addresses that the configuration in use has it listen on; None where it can't be asked.
    - ``not_taken``: why the newest configuration is not in use; empty if it is.
    - ``mismatch``: why the process that answers there is another one, of which the rest tells nothing; else empty.
    """

    runs: bool = False
    versions: tuple[tuple[str, str], ...] = ()
    listening: frozenset[str] | None = None
    not_taken: str = ""
    mismatch: str = ""


async def running_process(admin: AdminKeys | None, wanted: ProcessName) -> Running:
    """Ask the process with this admin interface, or each of its workers, whether it is ``wanted``, and how it runs."""
    versions, listening, not_taken, runs, mismatch = [], None, "", False, ""
    for one in _interfaces(admin):
        try:
            told = await ask(one, "/server_info")
            found = ProcessName.of_record(told)
            if found is not None and (other := wanted.mismatch(found, f"the admin interface {one.name}")):
                mismatch = other
                continue
            versions.append((one.name, str(told.get("version", "none"))))
            used = await ask(one, "/config_dump")
        except (ConfigError, RequestError) as error:
            runs = runs or isinstance(error, RequestError) or isinstance(error.__cause__, PermissionError)
            continue
        runs, not_taken = True, str(used.get("not_taken") or not_taken)
        listening = (listening or frozenset()) | frozenset(_addresses("", used.get("config")))
    return Running(runs or bool(versions), tuple(versions), listening, not_taken, mismatch)


def _interfaces(admin: AdminKeys | None) -> list[Interface]:
    if admin is None:
        return []
    if admin.socket is not None:
        return processes_at(admin.socket)
    return [Interface(admin.listen)] if admin.listen is not None else []


def _addresses(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, str) and (name in _KEYS or name.endswith("listen")):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _addresses(key, one)
    elif isinstance(value, list):
        for one in value:
            yield from _addresses(name, one)
