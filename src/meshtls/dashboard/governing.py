"""What the server's API says of trust: authorities with their states, federation, and the head of the log."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from meshtls.ca.tlog.note import NoteKey
from meshtls.errors import MeshtlsError
from meshtls.serverapi.admin import AdminClient
from meshtls.serverapi.channels import local_channel
from meshtls.serverapi.federation import RelationStatus
from meshtls.serverapi.log_reader import AdminLog, LogReader
from meshtls.serverapi.values import AuthorityStatus

__all__ = ["ask_server"]


async def ask_server(socket: Path) -> dict[str, Any]:
    """Each part by itself: ``error`` has why one was not answered. Never raises for what the server does."""
    async with local_channel(socket) as channel:
        api = AdminClient(channel)
        found: dict[str, Any] = {"error": "", "authorities": [], "relations": [], "log": None, "log_error": ""}
        try:
            found["authorities"] = [_authority(one) for one in await api.authorities()]
            found["relations"] = [_relation(one) for one in await api.relations()]
        except (MeshtlsError, OSError) as error:
            return {**found, "error": f"{socket}: {error}"}
        try:
            found["log"] = await _log(api)
        except (MeshtlsError, OSError) as error:
            found["log_error"] = str(error)
        return found


async def _log(api: AdminClient) -> dict[str, Any]:
    """The newest checkpoint, verified by the keys that the server names."""
    source = AdminLog(api)
    lines = (await source.get("keys")).decode("utf-8", "replace").split("\n")
    checkpoint, _ = await LogReader(source, [NoteKey.parse(line) for line in lines if line]).checkpoint()
    return {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}


def _authority(one: AuthorityStatus) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "state": one.state,
        "trouble": one.trouble,
        "server_id": one.server_id,
        "changed_at": _text(one.changed_at),
        "ends_at": _text(one.ends_at),
        "leaves_at": _text(one.leaves_at),
        "svids_in_use": sum(held.count for held in one.holders),
        "waiting_for": len(one.waiting_for),
        "revocable_at": _text(one.revocable_at),
    }


def _relation(status: RelationStatus) -> dict[str, Any]:
    return {
        "trust_domain": str(status.relation.trust_domain),
        "url": status.relation.url,
        "profile": status.relation.profile.value,
        "x509_authorities": None if status.bundle is None else len(status.bundle.x509_authorities),
        "sequence": None if status.bundle is None else status.bundle.sequence,
        "fetched_at": _text(status.fetched_at),
        "next_at": _text(status.next_at),
        "failure": status.failure,
    }


def _text(when: datetime | None) -> str | None:
    return when.isoformat() if when is not None else None
