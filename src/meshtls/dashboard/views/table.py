"""The dashboard's pages by their names. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from meshtls.dashboard.model import Model, View
from meshtls.dashboard.views.connections import connections
from meshtls.dashboard.views.denials import denials
from meshtls.dashboard.views.identities import identities
from meshtls.dashboard.views.learn import learn
from meshtls.dashboard.views.mesh import mesh
from meshtls.dashboard.views.policies import policies
from meshtls.dashboard.views.processes import processes
from meshtls.dashboard.views.trust import trust

__all__ = ["SHOWS", "Show"]

#: Given the model and the words after ``?``. Raises RequestError.
Show = Callable[[Model, Mapping[str, str]], dict[str, Any]]
SHOWS: dict[View, Show] = {
    View.MESH: mesh,
    View.IDENTITIES: identities,
    View.CONNECTIONS: connections,
    View.DENIALS: denials,
    View.POLICIES: policies,
    View.TRUST: trust,
    View.LEARN: learn,
    View.PROCESSES: processes,
}
