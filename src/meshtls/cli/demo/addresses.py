"""Where the parts of a mesh in one process listen: for people as a table, for programs as a record."""

from __future__ import annotations

from collections.abc import Iterable

from meshtls.admin.words import in_words
from meshtls.cli.demo.mesh import Member
from meshtls.sidecar.listener import Listener

__all__ = ["address_record", "address_table"]


def address_record(member: Member) -> dict[str, object]:
    """The addresses of a sidecar and its app, as they are bound; None, or nothing, for what it does not have."""
    sidecar, admin = member.sidecar, member.config.admin
    outbound = zip(sidecar.outbound, member.config.outbound, strict=True)
    return {
        "name": member.name,
        "spiffe_id": str(member.config.spiffe_id),
        "inbound": _addresses(sidecar.inbound),
        "app": None if member.app is None else str(member.app),
        "outbound": [{"listen": str(one.address), "to": str(config.to)} for one, config in outbound],
        "health": _address(sidecar.health),
        "metrics": _address(sidecar.scrapes),
        "admin": None if admin is None or admin.socket is None else str(admin.socket),
    }


def address_table(members: Iterable[Member]) -> list[str]:
    """Lines: of each sidecar where mutual TLS arrives, its app, where its app calls others, and its probes."""
    rows = [
        {
            "sidecar": one.name,
            "inbound": ", ".join(_addresses(one.sidecar.inbound)),
            "app": one.app,
            "outbound": ", ".join(_addresses(one.sidecar.outbound)),
            "to": ", ".join(str(config.to) for config in one.config.outbound),
            "health": _address(one.sidecar.health),
            "metrics": _address(one.sidecar.scrapes),
        }
        for one in members
    ]
    return in_words({"addresses": rows}).split("\n")


def _addresses(listeners: Iterable[Listener]) -> list[str]:
    return [str(one.address) for one in listeners]


def _address(listener: Listener | None) -> str | None:
    return None if listener is None else str(listener.address)
