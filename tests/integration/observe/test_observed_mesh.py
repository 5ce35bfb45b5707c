"""A real Prometheus scrapes a real mesh: it understands every query, and fires when an SVID can't be renewed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from meshtls.observe.boards.panels import ROWS
from meshtls.observe.boards.rules import alert_rules
from tests.integration.observe.observed_mesh import WEB, ObservedMesh, observed_mesh
from tests.support.prometheus import wait_for

#: Short enough to wait for.
_TTL = 30
#: With many seconds between the renewal at half of it, the alert at three quarters, and the end: of the alert as well.
_LONGER_TTL = 60
_RULES = [rule["expr"] for group in yaml.safe_load(alert_rules())["groups"] for rule in group["rules"]]
_PANELS = [query.expr for row in ROWS for panel in row.panels for query in panel.queries]
#: What is in a query that has no series in this mesh, and why.
_WITHOUT = {
    "meshtls_agent_sync_failures_total": "none fails",
    "meshtls_agent_connections_refused_total": "none is refused",
    "meshtls_server_connections_refused_total": "none is refused",
    "meshtls_server_federation_": "it federates with no trust domain",
    'meshtls_connections_closed_total{@,outcome!="OK"}': "none fails",
}


def asked(expr: str) -> str:
    """The query as Grafana sends it for all processes."""
    return expr.replace('"$job"', '".*"').replace('"$instance"', '".*"').replace("$__rate_interval", "1m")


def silent(mesh: ObservedMesh) -> list[str]:
    """The queries of the dashboard that have no series now, and should have some."""
    excused = [part.replace("{@", '{job=~"$job",instance=~"$instance"') for part in _WITHOUT]
    return [
        expr for expr in _PANELS if not any(part in expr for part in excused) and not mesh.prometheus.query(asked(expr))
    ]


@pytest.mark.timeout(600)
def test_prometheus_understands_every_query_and_those_of_the_dashboard_have_series(tmp_path: Path) -> None:
    with observed_mesh(tmp_path, _TTL) as mesh:
        for expr in (*_RULES, *map(asked, _PANELS)):
            mesh.prometheus.query(expr)
        assert (mesh.get("/allowed"), mesh.get("/forbidden")) == (200, 403)
        mesh.be_refused()
        assert mesh.agent.tell("fetch", "jwt", "--audience", "b").code == 0
        wait_for(lambda: not silent(mesh), lambda: f"series of {silent(mesh)}")


@pytest.mark.timeout(600)
def test_an_svid_that_can_not_be_renewed_fires_before_it_expires_and_one_that_is_renewed_does_not(
    tmp_path: Path,
) -> None:
    with observed_mesh(tmp_path, _LONGER_TTL) as mesh:
        prometheus = mesh.prometheus

        def healthy() -> bool:
            renewed = 'sum(meshtls_svid_rotations_total{result="renewed"}) >= 2'  # one of each sidecar
            critical = [one for one in prometheus.alerts() if one["labels"]["severity"] == "critical"]
            return bool(prometheus.query(renewed)) and not critical and not prometheus.firing("MeshtlsSvidNotRotated")

        wait_for(healthy, lambda: f"rotations, and no alert; there are {prometheus.alerts()}")
        assert mesh.server.process.stop() == 0
        wanted = {
            ("MeshtlsDown", rf"127\.0\.0\.1:{mesh.metrics['server']} can't be scraped"),
            ("MeshtlsSvidNotRotated", f"the SVID of {WEB} was not rotated in time"),
            ("MeshtlsRotationFails", "the agent at .* can't renew SVIDs of its workloads"),
            ("MeshtlsWorkloadSvidExpired", "the agent at .* has workloads without a valid SVID"),
            ("MeshtlsSvidInvalid", ".* has no valid SVID"),
        }
        told: set[tuple[str, str]] = set()

        def all_have_fired() -> bool:
            """Each at some time: an SVID that was not rotated expires, and then is told as invalid."""
            told.update(
                (one["labels"]["alertname"], one["annotations"]["summary"])
                for one in prometheus.alerts()
                if one["state"] == "firing"
            )
            return all(
                any(name == alert and re.fullmatch(summary, one) for alert, one in told) for name, summary in wanted
            )

        wait_for(all_have_fired, lambda: f"{wanted} fire; {told} did")
