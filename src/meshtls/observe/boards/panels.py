"""What the dashboard shows, row by row: the queries of each panel. Pure.

In a query ``{@`` begins the selector of the processes that are chosen at the top of the dashboard.
"""

from __future__ import annotations

import msgspec

__all__ = ["ROWS", "Panel", "Query", "Row"]

_CHOSEN = '{job=~"$job",instance=~"$instance"'
_GREEN, _AMBER, _RED = "green", "orange", "red"


class Query(msgspec.Struct, frozen=True):
    """A query in PromQL, with ``{@`` as above, and Grafana's template for the names of its series."""

    text: str
    legend: str = ""

    @property
    def expr(self) -> str:
        """The query as Prometheus gets it, once Grafana has put in its variables."""
        return self.text.replace("{@", _CHOSEN)


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """A panel of ``width`` of 24 columns.

    - ``unit``: Grafana's name of the unit. ``signed``: values below 0 are shown, too.
    - ``steps``: with these a panel shows the present value alone, in the color of the last step that it reaches.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 8
    signed: bool = False
    steps: tuple[tuple[str, float | None], ...] = ()

    @property
    def stat(self) -> bool:
        return bool(self.steps)


class Row(msgspec.Struct, frozen=True):
    """Panels under a title."""

    title: str
    panels: tuple[Panel, ...]


_NONE_IS_GOOD: tuple[tuple[str, float | None], ...] = ((_GREEN, None), (_RED, 1))
_NEUTRAL: tuple[tuple[str, float | None], ...] = ((_GREEN, None),)

_OVERVIEW = Row(
    "Overview",
    (
        Panel(
            title="Processes",
            description="Sidecars, agents, servers and services whose metrics are scraped.",
            queries=(Query("count by (component) (meshtls_build_info{@})", "{{component}}"),),
            width=8,
            steps=_NEUTRAL,
        ),
        Panel(
            title="Alerts",
            description="Alerts of `meshtls observe rules` that fire.",
            queries=(
                Query('count(ALERTS{@,alertname=~"Meshtls.*",alertstate="firing"}) or vector(0)', "firing"),
                Query('count(ALERTS{@,alertname=~"Meshtls.*",alertstate="pending"}) or vector(0)', "pending"),
            ),
            width=4,
            steps=_NONE_IS_GOOD,
        ),
        Panel(
            title="Not ready",
            description="Processes whose /ready answers 503.",
            queries=(Query("count(meshtls_ready{@} == 0) or vector(0)"),),
            width=4,
            steps=_NONE_IS_GOOD,
        ),
        Panel(
            title="Next expiry",
            description="Time until the first X509-SVID expires, of all processes.",
            queries=(Query("min(meshtls_svid_expiry_timestamp_seconds{@} - time())"),),
            unit="s",
            width=4,
            signed=True,
            steps=((_RED, None), (_AMBER, 60), (_GREEN, 600)),
        ),
        Panel(
            title="Old configurations",
            description="Sidecars that rejected their latest configuration or policies.",
            queries=(Query("count(meshtls_config_outdated{@} == 1) or vector(0)"),),
            width=4,
            steps=_NONE_IS_GOOD,
        ),
    ),
)

_TRAFFIC = Row(
    "Mesh traffic",
    (
        Panel(
            title="Connections opened",
            description="Connections and streams that were authorized, per second.",
            queries=(
                Query(
                    "sum by (source, destination) (rate("
                    'meshtls_connections_opened_total{@,direction="inbound"}[$__rate_interval]))',
                    "{{source}} to {{destination}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            title="Open connections",
            description="Connections, streams of tunnels and tunnels that are open.",
            queries=(Query("sum by (direction, kind) (meshtls_open_connections{@})", "{{direction}} {{kind}}"),),
        ),
        Panel(
            title="Use of the connection limit",
            description="Open connections whose peer is proven, as a share of limits.connections.",
            queries=(
                Query(
                    "(sum by (instance) (meshtls_open_connections{@})"
                    " - sum by (instance) (meshtls_unproven_connections{@}))"
                    " / sum by (instance) (meshtls_connections_limit{@})",
                    "{{instance}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Bytes",
            description="Application bytes per second, from and to the side that opened the connection.",
            queries=(
                Query(
                    'sum(rate(meshtls_received_bytes_total{@,direction="inbound"}[$__rate_interval]))',
                    "from clients",
                ),
                Query('sum(rate(meshtls_sent_bytes_total{@,direction="inbound"}[$__rate_interval]))', "to clients"),
            ),
            unit="Bps",
        ),
        Panel(
            title="HTTP requests",
            description="HTTP requests per second, by the class of the response's status.",
            queries=(
                Query("sum by (code_class) (rate(meshtls_http_requests_total{@}[$__rate_interval]))", "{{code_class}}"),
            ),
            unit="reqps",
        ),
        Panel(
            title="Time to the response",
            description="Time until the response to an HTTP request began: the median and the 99th percentile.",
            queries=tuple(
                Query(
                    f"histogram_quantile({quantile}, sum by (le) (rate("
                    "meshtls_http_request_duration_seconds_bucket{@}[$__rate_interval])))",
                    name,
                )
                for quantile, name in (("0.5", "median"), ("0.99", "99 %"))
            ),
            unit="s",
        ),
        Panel(
            title="Handshakes",
            description="The 99th percentile of the time that a TLS handshake takes, also where it fails.",
            queries=(
                Query(
                    "histogram_quantile(0.99, sum by (direction, le) (rate("
                    "meshtls_handshake_duration_seconds_bucket{@}[$__rate_interval])))",
                    "{{direction}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Resumed sessions",
            description="TLS sessions with authorized peers that resumed an earlier one, as a share of all.",
            queries=(
                Query(
                    'sum by (direction) (rate(meshtls_tls_sessions_total{@,resumed="true"}[$__rate_interval]))'
                    " / sum by (direction) (rate(meshtls_tls_sessions_total{@}[$__rate_interval]))",
                    "{{direction}}",
                ),
            ),
            unit="percentunit",
        ),
        Panel(
            title="Handshake queue",
            description="Handshakes that wait for a step, and inbound connections whose peer is not proven yet.",
            queries=(
                Query("sum by (instance) (meshtls_handshake_queue_length{@})", "{{instance}} queue"),
                Query("sum by (instance) (meshtls_unproven_connections{@})", "{{instance}} unproven"),
            ),
        ),
    ),
)

_DENIALS = Row(
    "Denials and failures",
    (
        Panel(
            title="Refused connections",
            description="Connections and streams that ended before they were authorized, per second, by outcome.",
            queries=(
                Query(
                    "sum by (direction, outcome) (rate(meshtls_connections_refused_total{@}[$__rate_interval]))",
                    "{{direction}} {{outcome}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            title="Refused peers",
            description="Refused connections per second, by the identities of both sides.",
            queries=(
                Query(
                    "topk(10, sum by (source, destination, outcome) ("
                    "rate(meshtls_connections_refused_total{@}[$__rate_interval])))",
                    "{{source}} to {{destination}}: {{outcome}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            title="Authorized connections that failed",
            description="Authorized connections that ended with another outcome than OK, per second.",
            queries=(
                Query(
                    "sum by (direction, outcome) ("
                    'rate(meshtls_connections_closed_total{@,outcome!="OK"}[$__rate_interval]))',
                    "{{direction}} {{outcome}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            title="Policy decisions",
            description="Decisions per second, by the policy that decided.",
            queries=(
                Query(
                    "sum by (policy, verdict) (rate(meshtls_policy_decisions_total{@}[$__rate_interval]))",
                    "{{policy}} {{verdict}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Dry run",
            description="What policies with istio.io/dry-run would have decided, per second.",
            queries=(
                Query(
                    "sum by (policy, verdict) (rate(meshtls_policy_dry_run_decisions_total{@}[$__rate_interval]))",
                    "{{policy}} {{verdict}}",
                ),
            ),
            unit="ops",
        ),
        Panel(
            title="Denied requests",
            description="HTTP requests per second that were denied or failed.",
            queries=(
                Query(
                    "sum by (source, destination, outcome) ("
                    'rate(meshtls_http_requests_total{@,verdict!="allowed"}[$__rate_interval]))',
                    "{{source}} to {{destination}}: {{outcome}}",
                ),
            ),
            unit="reqps",
        ),
    ),
)

_IDENTITIES = Row(
    "Identities",
    (
        Panel(
            title="Remaining life of SVIDs",
            description="Time until each X509-SVID expires. It rises at half of the life, when the SVID is renewed.",
            queries=(Query("meshtls_svid_expiry_timestamp_seconds{@} - time()", "{{spiffe_id}} {{instance}}"),),
            unit="s",
            signed=True,
        ),
        Panel(
            title="Rotations",
            description="SVIDs that were renewed, or withdrawn by the Workload API, per hour.",
            queries=(Query("sum by (result) (increase(meshtls_svid_rotations_total{@}[1h]))", "{{result}}"),),
        ),
        Panel(
            title="Failures of the Workload API",
            description="Attempts to get an X509-SVID from the Workload API that failed, per minute, by reason.",
            queries=(
                Query(
                    "60 * sum by (instance, reason) (rate(meshtls_workload_api_failures_total{@}[$__rate_interval]))",
                    "{{instance}} {{reason}}",
                ),
            ),
        ),
        Panel(
            title="Bundles",
            description="The sequence number of each trust domain's bundle. All processes should have the same.",
            queries=(
                Query("min by (trust_domain) (meshtls_bundle_sequence{@})", "{{trust_domain}} lowest"),
                Query("max by (trust_domain) (meshtls_bundle_sequence{@})", "{{trust_domain}} highest"),
            ),
        ),
    ),
)

_AGENTS = Row(
    "Agents",
    (
        Panel(
            title="Time since the last sync",
            description="Time since each agent last heard of a server: an update, or the answer to a call.",
            queries=(Query("meshtls_agent_sync_lag_seconds{@}", "{{instance}}"),),
            unit="s",
        ),
        Panel(
            title="Failed syncs",
            description="Attempts to reach a server that failed, per minute, by reason.",
            queries=(
                Query(
                    "60 * sum by (instance, reason) (rate(meshtls_agent_sync_failures_total{@}[$__rate_interval]))",
                    "{{instance}} {{reason}}",
                ),
            ),
        ),
        Panel(
            title="Entries and SVIDs",
            description="The entries that agents have, and the SVIDs of their workloads by state.",
            queries=(
                Query("sum(meshtls_agent_entries{@})", "entries"),
                Query("sum by (state) (meshtls_agent_svids{@})", "SVIDs {{state}}"),
            ),
        ),
        Panel(
            title="Next expiry of a workload's SVID",
            description="Time until the first SVID of an agent's workloads expires.",
            queries=(Query("meshtls_agent_next_svid_expiry_timestamp_seconds{@} - time()", "{{instance}}"),),
            unit="s",
            signed=True,
        ),
        Panel(
            title="Rotations by agents",
            description="SVIDs of workloads, and agents' own, that were renewed or could not be, per hour.",
            queries=(
                Query("sum by (result) (increase(meshtls_agent_svid_rotations_total{@}[1h]))", "workloads {{result}}"),
                Query("sum by (result) (increase(meshtls_agent_own_svid_rotations_total{@}[1h]))", "agents {{result}}"),
            ),
        ),
        Panel(
            title="Workloads",
            description="Processes with a connection to an agent, and calls that have not ended, by API.",
            queries=(
                Query("sum(meshtls_agent_workloads{@})", "workloads"),
                Query("sum by (api) (meshtls_agent_streams{@})", "streams {{api}}"),
            ),
        ),
        Panel(
            title="Calls to agents",
            description="Calls to agents that ended, per second, by status.",
            queries=(Query("sum by (code) (rate(meshtls_agent_rpcs_total{@}[$__rate_interval]))", "{{code}}"),),
            unit="reqps",
        ),
        Panel(
            title="Denied callers",
            description="Callers that got no identity, per minute, by reason.",
            queries=(
                Query(
                    "60 * sum by (instance, reason) (rate(meshtls_agent_denials_total{@}[$__rate_interval]))",
                    "{{instance}} {{reason}}",
                ),
            ),
        ),
        Panel(
            title="Attestation",
            description="The 99th percentile of the time that an agent takes to find out who calls.",
            queries=(
                Query(
                    "histogram_quantile(0.99, sum by (le) (rate("
                    "meshtls_agent_attestation_duration_seconds_bucket{@}[$__rate_interval])))",
                    "99 %",
                ),
            ),
            unit="s",
        ),
    ),
)

_SERVERS = Row(
    "Servers and their CA",
    (
        Panel(
            title="Remaining life of authorities",
            description="Time until the first authority of each kind and state expires.",
            queries=(
                Query("min by (kind, state) (meshtls_server_authority_remaining_seconds{@})", "{{kind}} {{state}}"),
            ),
            unit="s",
            signed=True,
        ),
        Panel(
            title="Remaining life of CA certificates",
            description="Time until the certificates expire by which each server signs.",
            queries=(Query("meshtls_server_ca_expiry_timestamp_seconds{@} - time()", "{{instance}} {{certificate}}"),),
            unit="s",
            signed=True,
        ),
        Panel(
            title="Issued",
            description="SVIDs and CA certificates that were issued, per minute, and attempts to sign that failed.",
            queries=(
                Query("60 * sum by (type) (rate(meshtls_server_svids_issued_total{@}[$__rate_interval]))", "{{type}}"),
                Query(
                    "60 * sum by (type) (rate(meshtls_server_signing_failures_total{@}[$__rate_interval]))",
                    "{{type}} failed",
                ),
            ),
        ),
        Panel(
            title="Calls to servers",
            description="Calls that ended, per second, by status.",
            queries=(Query("sum by (code) (rate(meshtls_server_rpcs_total{@}[$__rate_interval]))", "{{code}}"),),
            unit="reqps",
        ),
        Panel(
            title="Time of calls",
            description="The 99th percentile of the time that a unary call takes, by method.",
            queries=(
                Query(
                    "histogram_quantile(0.99, sum by (method, le) (rate("
                    "meshtls_server_rpc_duration_seconds_bucket{@}[$__rate_interval])))",
                    "{{method}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Data store",
            description="The 99th percentile of the time that a call to the data store takes, and failures per second.",
            queries=(
                Query(
                    "histogram_quantile(0.99, sum by (operation, le) (rate("
                    "meshtls_server_store_duration_seconds_bucket{@}[$__rate_interval])))",
                    "{{operation}} seconds",
                ),
                Query(
                    "sum by (operation) (rate(meshtls_server_store_failures_total{@}[$__rate_interval]))",
                    "{{operation}} failures",
                ),
            ),
        ),
        Panel(
            title="Agents and entries",
            description="Agents that are connected, agents in the data store, and registration entries.",
            queries=(
                Query("sum(meshtls_server_agents_connected{@})", "connected"),
                Query("max by (state) (meshtls_server_agents{@})", "{{state}}"),
                Query("max(meshtls_server_entries{@})", "entries"),
            ),
        ),
        Panel(
            title="Behind the data store",
            description="Time since each server's view was last known to be the data store's.",
            queries=(Query("meshtls_server_store_sync_lag_seconds{@}", "{{instance}}"),),
            unit="s",
        ),
        Panel(
            title="Refused connections of servers and agents",
            description="Connections that a server or an agent refused, per minute, by reason.",
            queries=(
                Query(
                    "60 * sum by (listener, reason) ("
                    "rate(meshtls_server_connections_refused_total{@}[$__rate_interval]))",
                    "{{listener}} {{reason}}",
                ),
                Query(
                    "60 * sum by (reason) (rate(meshtls_agent_connections_refused_total{@}[$__rate_interval]))",
                    "agents {{reason}}",
                ),
            ),
        ),
        Panel(
            title="Revocations",
            description="Blocks and revoked certificates in force, by kind.",
            queries=(Query("max by (kind) (meshtls_server_revocations{@})", "{{kind}}"),),
        ),
        Panel(
            title="Transparency log and audit trail",
            description="Leaves that are appended and not signed yet, and records per minute.",
            queries=(
                Query(
                    'max(meshtls_server_log_leaves{@,state="appended"})'
                    ' - max(meshtls_server_log_leaves{@,state="signed"})',
                    "unsigned leaves",
                ),
                Query('60 * max(deriv(meshtls_server_log_leaves{@,state="appended"}[5m]))', "leaves per minute"),
                Query("60 * max(deriv(meshtls_server_audit_records{@}[5m]))", "audit records per minute"),
            ),
            signed=True,
        ),
    ),
)

_FEDERATION = Row(
    "Federation",
    (
        Panel(
            title="Age of bundles",
            description="Time since the bundle of each trust domain was last fetched.",
            queries=(
                Query(
                    "time() - max by (trust_domain) (meshtls_server_federation_last_success_timestamp_seconds{@})",
                    "{{trust_domain}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            title="Fetched bundles",
            description="Attempts to fetch the bundles of other trust domains, per hour, by result.",
            queries=(
                Query(
                    "sum by (trust_domain, result) (increase(meshtls_server_federation_fetches_total{@}[1h]))",
                    "{{trust_domain}} {{result}}",
                ),
            ),
        ),
        Panel(
            title="Sequence of bundles",
            description="The sequence number of each trust domain's bundle at servers, and the lowest at an agent.",
            queries=(
                Query(
                    "max by (trust_domain) (meshtls_server_federation_bundle_sequence{@})", "{{trust_domain}} servers"
                ),
                Query("min by (trust_domain) (meshtls_agent_bundle_sequence{@})", "{{trust_domain}} agents"),
            ),
        ),
    ),
)

#: In the order of the dashboard.
ROWS = (_OVERVIEW, _TRAFFIC, _DENIALS, _IDENTITIES, _AGENTS, _SERVERS, _FEDERATION)
