"""Whom the mesh trusts: the authorities of each trust domain and who holds them, and what the server says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshtls.dashboard.model import Kind, Model, Process

__all__ = ["trust"]

Record = Mapping[str, Any]


def trust(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    """A trust domain is ``agreed`` if all processes that hold a bundle of it hold the same authorities."""
    domains: dict[str, dict[str, Record]] = {}
    holders: dict[tuple[str, str], list[str]] = {}
    holding: dict[str, set[str]] = {}
    tainted: set[str] = set()
    followed: set[str] = set()
    for process in model.processes.values():
        for bundle in _bundles(process):
            domain = str(bundle["trust_domain"])
            holding.setdefault(domain, set()).add(process.name)
            for one in bundle["x509_authorities"]:
                domains.setdefault(domain, {}).setdefault(one["sha256"], one)
                of = holders.setdefault((domain, one["sha256"]), [])
                if process.name not in of:
                    of.append(process.name)
        tainted |= set(process.pages.get("/certs", {}).get("tainted", ()))
        followed |= set(process.pages.get("/routes", {}).get("federates_with", ()))
    return {
        "trust_domains": [
            {
                "trust_domain": domain,
                "processes": len(holding[domain]),
                "agreed": all(len(holders[domain, key]) == len(holding[domain]) for key in found),
                "authorities": [
                    {**one, "held_by": len(holders[domain, key]), "holders": holders[domain, key][:20]}
                    for key, one in found.items()
                ],
            }
            for domain, found in sorted(domains.items())
        ],
        "tainted": sorted(tainted),
        "federates_with": sorted(followed),
        "server": model.authority,
    }


def _bundles(process: Process) -> Iterator[Record]:
    certs = process.pages.get("/certs", {})
    yield from certs.get("bundles", ())
    if process.kind in (Kind.AGENT, Kind.SERVER):
        yield from certs.get(process.kind.value, {}).get("bundles", ())
