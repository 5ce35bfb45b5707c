"""The admin interface that the file of a process names, if that process answers there.

The file is read for a few keys only: what is wrong elsewhere in it is no reason not to ask the process that runs.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec

from meshtls.admin.asking import Interface, mistaken, processes_at
from meshtls.admin.keys import AdminKeys
from meshtls.config.document import Document, Section, read_text
from meshtls.config.keys import PATH, TEXT, TRUST_DOMAIN, WORKLOAD_ID, Key
from meshtls.config.reading import read_section
from meshtls.config.spire import either_form
from meshtls.errors import ConfigError, RequestError
from meshtls.observe.process_name import ProcessKind, ProcessName
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["interfaces_of_file"]


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that name a process, in the file of any."""

    name: Annotated[str, Key("A sidecar's.", TEXT, default="none")] = ""
    spiffe_id: Annotated[SpiffeId | None, Key("A sidecar's.", WORKLOAD_ID, default="none")] = None
    socket_path: Annotated[Path | None, Key("An agent's or a server's.", PATH, default="none")] = None
    trust_domain: Annotated[TrustDomain | None, Key("An agent's or a server's.", TRUST_DOMAIN, default="none")] = None


def interfaces_of_file(file: Path) -> list[Interface]:
    """Where the process with this file answers, or each of its workers.

    Raises ConfigError: the file names no socket, or another process answers there. One that does not answer is found.
    """
    document, _ = either_form(str(file), read_text(file), "agent")
    section = document.root.keys.get("admin")
    keys = read_section(document, section, AdminKeys).values if isinstance(section, Section) else {}
    if keys.get("socket") is None:
        raise ConfigError(f"{file}: admin.socket: wanted the path of a Unix socket, got none: there is nothing to ask")
    found, process = processes_at(keys["socket"]), _process(document)
    if process is not None and (mismatch := asyncio.run(_mistaken(found, process))):
        raise ConfigError(f"{file}: admin.socket: {mismatch}")
    return found


def _process(document: Document) -> ProcessName | None:
    """Which process runs with this file, as far as its keys can be read; None where they don't tell its kind."""
    given = document.root.keys
    section = Section(document.root.place, {key: given[key] for key in _Named.__struct_fields__ if key in given})
    keys = read_section(document, section, _Named).values
    if "spiffe_id" in given:
        return ProcessName(ProcessKind.SIDECAR, keys.get("name", ""), str(keys.get("spiffe_id") or ""))
    if "trust_domain" not in given:
        return None
    kind = ProcessKind.AGENT if "server_address" in given else ProcessKind.SERVER
    return ProcessName(kind, str(keys.get("socket_path") or ""), str(keys.get("trust_domain") or ""))


async def _mistaken(interfaces: list[Interface], process: ProcessName) -> str:
    for one in interfaces:
        try:
            mismatch = await mistaken(one, process)
        except (ConfigError, RequestError):
            continue  # whoever asks for a page is told
        if mismatch:
            return mismatch
    return ""
