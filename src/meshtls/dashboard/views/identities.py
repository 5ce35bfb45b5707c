"""Each SVID: its life, its chain up to a root, its rotations so far and the next one. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from meshtls.dashboard.model import Kind, Model, Process
from meshtls.dashboard.rotations import Held

__all__ = ["identities"]

Record = Mapping[str, Any]


def identities(model: Model, words: Mapping[str, str]) -> dict[str, Any]:
    due = dict(_due(model))
    found = [_identity(model.processes[one.process], one, due) for one in model.rotations]
    missing = [
        {"process": one.name, "spiffe_id": one.info.get("spiffe_id"), "why": why}
        for one in model.processes.values()
        if (why := _missing(one))
    ]
    return {
        "identities": sorted(found, key=lambda one: (one["spiffe_id"], one["process"])),
        "missing": missing,
    }


def _due(model: Model) -> Iterator[tuple[str, str]]:
    """The serials of SVIDs, and when an agent will renew each."""
    for process in model.processes.values():
        if process.kind is Kind.AGENT:
            for one in process.pages.get("/policies", {}).get("entries", ()):
                if one.get("serial") and one.get("renewal_due"):
                    yield one["serial"], one["renewal_due"]


def _identity(process: Process, held: Held, due: Mapping[str, str]) -> dict[str, Any]:
    svid = held.svid
    known = due.get(str(svid["serial"]))
    return {
        "process": process.name,
        "role": held.role,
        "stale": bool(process.error),
        "spiffe_id": svid["spiffe_id"],
        "hint": svid.get("hint"),
        "serial": svid["serial"],
        "not_before": svid["not_before"],
        "not_after": svid["not_after"],
        "next_rotation": known or held.next_rotation.isoformat(),
        "next_rotation_estimated": known is None,
        "path": _path(svid, process),
        "history": list(held.history),
    }


def _path(svid: Record, process: Process) -> list[dict[str, Any]]:
    """The chain, leaf first, and the root of a bundle that its last certificate names as issuer."""
    certs = process.pages.get("/certs", {})
    own = certs.get(process.kind.value, certs) if process.kind is not None else certs
    bundles = [*certs.get("bundles", ()), *own.get("bundles", ())]
    domain = str(svid["spiffe_id"]).removeprefix("spiffe://").partition("/")[0]
    chain = list(svid.get("chain", ()))
    roles = ["leaf", *("intermediate" for _ in chain[1:])]
    steps = [{"role": role, **one} for role, one in zip(roles, chain, strict=True)]
    if chain:
        for bundle in bundles:
            if bundle.get("trust_domain") == domain:
                roots = [one for one in bundle["x509_authorities"] if one["subject"] == chain[-1]["issuer"]]
                if roots:
                    return [*steps, {"role": "root", **roots[0]}]
    return steps


def _missing(process: Process) -> str:
    certs = process.pages.get("/certs", {})
    own = certs.get(process.kind.value, {}) if process.kind in (Kind.AGENT, Kind.SERVER) else certs
    return str(own.get("missing") or "")
