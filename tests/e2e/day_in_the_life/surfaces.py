"""What the surfaces of a mesh say: access log, log, metrics, ``check``, ``explain`` and the dashboard."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.e2e.day_in_the_life.breakage import option_of
from tests.e2e.day_in_the_life.mesh import Mesh
from tests.integration.cli.identity_site import Told, tell

__all__ = [
    "Marks",
    "browsed",
    "browsed_page",
    "checked",
    "ended",
    "explained",
    "failures",
    "marks_of",
    "problems",
    "sample",
]

_ENDED = re.compile(r"^meshtls_connections_(?:refused|closed)_total\{(.*)\} (\S+)$", re.MULTILINE)
_REQUESTS = re.compile(r"^meshtls_http_requests_total\{(.*)\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Marks:
    """How far the logs of a program are: what comes later is of a breakage."""

    out: int
    err: int


def marks_of(mesh: Mesh, name: str) -> Marks:
    program = mesh.programs[name]
    return Marks(*(file.stat().st_size if file.exists() else 0 for file in (program.out, program.err)))


def ended(mesh: Mesh, name: str, marks: Marks) -> list[dict[str, Any]]:
    """The lines that a sidecar's access log has since."""
    lines = mesh.programs[name].out.read_bytes()[marks.out :].decode().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]


def failures(mesh: Mesh, name: str, outcome: str) -> float:
    """How many connections and requests a sidecar has counted with this outcome."""
    text = mesh.get(f"{name} metrics", "/metrics")
    found = [*_ENDED.findall(text), *_REQUESTS.findall(text)]
    return sum(float(value) for labels, value in found if f'outcome="{outcome}"' in labels)


def sample(mesh: Mesh, name: str, family: str, labels: str = "") -> float | None:
    """The value of a metric of a program with these among its labels, summed up; None if it has none."""
    text = mesh.get(f"{name} metrics", "/metrics")
    found = re.findall(rf"^{re.escape(family)}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
    values = [float(value) for there, value in found if labels in there]
    return sum(values) if values else None


def checked(mesh: Mesh, name: str) -> Told:
    """``meshtls check`` with the file of this program."""
    words = ("check", option_of(name), mesh.file(name), "--output", "json")
    program = mesh.programs[name]
    return program.run(*words) if program.prefix else tell(*words)


def problems(told: Told) -> list[str]:
    """What a check found: each failure and warning with its reason."""
    return [
        f"{one['result']}: {one['check']}: {one['reason']}"
        for group in told.json["groups"]
        for one in group["checks"]
        if one["result"] != "passed"
    ]


def explained(mesh: Mesh, connection_id: str) -> str:
    """The story of a connection, as the sidecars that run tell it."""
    running = [mesh.admin_socket(name) for name in ("web", "db") if mesh.programs[name].runs]
    options = [word for socket in running for word in ("--socket", socket)]
    told = tell("explain", "connection", connection_id, *options)
    assert told.code == 0, told
    return told.out


def browsed(mesh: Mesh, connection_id: str) -> str:
    """The story of a connection on the dashboard; nothing, if it has none yet."""
    told = json.loads(mesh.get("dashboard", f"/api/story?id={connection_id}"))
    return "\n".join(line for one in told.get("connections", ()) for line in one["story"])


def browsed_page(mesh: Mesh, page: str, name: str) -> str:
    """What a page of the dashboard says of a program."""
    told = json.loads(mesh.get("dashboard", f"/api/{page.lower()}"))
    if page == "Trust":
        server = told["server"] or {"relations": [], "authorities": []}
        return "\n".join(
            [one["failure"] for one in server["relations"]] + [one["trouble"] for one in server["authorities"]]
        )
    (row,) = [one for one in told["processes"] if one["address"] == str(mesh.admin_socket(name))]
    return f"{row['error']}\n{row['ready_text']}"
