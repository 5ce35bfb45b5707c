"""Every metric of a sidecar. Pure.

Identities are the verified ones; where there is none, such as for plaintext, the label says ``unknown``. What a peer
only claims, such as the names in its baggage, is in no label. An Istio workload's name is the last segment of its
SPIFFE ID, which is the service account in ``/ns/<namespace>/sa/<account>``; the sidecar's own is what ``workload`` in
its file says.
"""

from __future__ import annotations

from meshtls.observe.events import Direction, Outcome, Verdict
from meshtls.observe.metrics import Label, Merge, counter, gauge, histogram
from meshtls.observe.metrics.build import BUILD, READY
from meshtls.observe.metrics.identity import (
    AGE,
    BUNDLE_AGE,
    BUNDLE_SEQUENCE,
    EXPIRY,
    HAS_IDENTITY,
    TRUST_GENERATION,
)
from meshtls.observe.metrics.workload_api import WORKLOAD_API_FAILURES

__all__ = ["FAMILIES", "ISTIO_LABELS", "UNKNOWN"]

UNKNOWN = "unknown"

DIRECTION = Label("direction", tuple(one.value for one in Direction))
OUTCOME = Label("outcome", tuple(one.name for one in Outcome))
VERDICT = Label("verdict", tuple(one.value for one in Verdict))
SECURITY = Label("security", ("mutual_tls", "tls", "plaintext", UNKNOWN))
_PEERS = (Label("source"), Label("destination"))
CODE_CLASS = Label("code_class", ("1xx", "2xx", "3xx", "4xx", "5xx", "none"))

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

ACCEPTED = counter("meshtls_connections_accepted_total", "Connections accepted, and streams of tunnels.", DIRECTION)
OPENED = counter(
    "meshtls_connections_opened_total",
    "Connections, and streams of tunnels, that were authorized: from then on application bytes may flow.",
    DIRECTION,
    *_PEERS,
    SECURITY,
)
CLOSED = counter(
    "meshtls_connections_closed_total",
    "Authorized connections and streams that ended, by outcome, as in the access log.",
    DIRECTION,
    *_PEERS,
    OUTCOME,
)
REFUSED = counter(
    "meshtls_connections_refused_total",
    "Connections and streams that ended before they were authorized. A denied peer's ID is that in its certificate,"
    " and the destination of an outbound one without a verified peer is the expected (configured) peer.",
    DIRECTION,
    *_PEERS,
    OUTCOME,
)
TUNNELS = counter("meshtls_tunnels_accepted_total", "Inbound tunnels that were authorized.", Label("source"))
STREAMS = counter("meshtls_streams_closed_total", "Streams of tunnels that ended.", DIRECTION, OUTCOME)
SESSIONS = counter(
    "meshtls_tls_sessions_total",
    "TLS sessions with authorized peers, by whether they resumed an earlier one.",
    DIRECTION,
    Label("resumed", ("true", "false")),
)
RECEIVED = counter(
    "meshtls_received_bytes_total",
    "Application bytes from the side that opened the connection.",
    DIRECTION,
    *_PEERS,
    unit="bytes",
)
SENT = counter(
    "meshtls_sent_bytes_total",
    "Application bytes to the side that opened the connection.",
    DIRECTION,
    *_PEERS,
    unit="bytes",
)
HANDSHAKE = histogram(
    "meshtls_handshake_duration_seconds",
    "TLS handshakes, also those that failed.",
    DIRECTION,
    buckets=_SECONDS,
    unit="seconds",
)
CONNECT = histogram(
    "meshtls_connect_duration_seconds",
    "Connecting to the app or to the peer, also where it failed.",
    DIRECTION,
    buckets=_SECONDS,
    unit="seconds",
)
DETECT = histogram(
    "meshtls_detect_duration_seconds",
    "Waiting for the client's first bytes, which show what it speaks.",
    DIRECTION,
    buckets=_SECONDS,
    unit="seconds",
)
REQUESTS = counter(
    "meshtls_http_requests_total",
    "HTTP requests that were answered or refused, by the class of the response's status.",
    *_PEERS,
    CODE_CLASS,
    OUTCOME,
    VERDICT,
)
REQUEST_TIME = histogram(
    "meshtls_http_request_duration_seconds",
    "Time until the response to an HTTP request began.",
    CODE_CLASS,
    buckets=_SECONDS,
    unit="seconds",
)
DECISIONS = counter(
    "meshtls_policy_decisions_total",
    "Decisions on inbound connections and HTTP requests, by the policy and the rule that decided; both are none where"
    " no policy matched.",
    Label("policy"),
    Label("rule"),
    VERDICT,
)
DRY_RUNS = counter(
    "meshtls_policy_dry_run_decisions_total",
    "What policies with istio.io/dry-run would have said of what was let in, and of denied connections.",
    Label("policy"),
    Label("rule"),
    Label("verdict", ("allowed", "denied")),
)

OPEN = gauge(
    "meshtls_open_connections",
    "Connections, streams of tunnels and tunnels that are open.",
    DIRECTION,
    Label("kind", ("connection", "stream", "tunnel")),
)
UNPROVEN = gauge("meshtls_unproven_connections", "Inbound connections whose peer has not proven its identity yet.")
LIMIT = gauge("meshtls_connections_limit", "limits.connections, over all processes.")
QUEUE = gauge("meshtls_handshake_queue_length", "Handshakes that wait for a step.")
WARM = gauge("meshtls_warm_connections", "Connections that were made ahead.", Label("destination"))
OUTBOUND_TUNNELS = gauge(
    "meshtls_outbound_tunnels", "Tunnels to a destination, idle ones included.", Label("destination")
)
TUNNEL_MEMORY = gauge("meshtls_tunnel_memory_bytes", "Bytes of tunnels that the apps have not read yet.", unit="bytes")
ROTATIONS = counter(
    "meshtls_svid_rotations_total",
    "Changes of our X509-SVID: renewed, or withdrawn by the Workload API. Each process counts its own.",
    Label("result", ("renewed", "withdrawn")),
)
VIEW_GENERATION = gauge(
    "meshtls_view_generation", "The generation of the configuration and the policies in use.", merge=Merge.MIN
)
CONFIG_REJECTED = counter(
    "meshtls_config_rejected_total",
    "Configurations, or policies, that were not taken because something is wrong with them. Each process counts them.",
)
CONFIG_OUTDATED = gauge(
    "meshtls_config_outdated",
    "1 as long as the latest configuration or policies were not taken, and an older one is in use.",
    merge=Merge.MAX,
)
LEFT_OUT = counter(
    "meshtls_access_log_left_out_total", "Lines of the access log that were left out, since too many strangers came."
)
PROCESSES = gauge("meshtls_processes", "Worker processes in this scrape.")
#: Of both Istio families below. ``reporter`` is the side that counted.
ISTIO_LABELS = (
    Label("reporter", ("source", "destination")),
    *(
        Label(f"{side}_{name}")
        for side in ("source", "destination")
        for name in ("workload", "workload_namespace", "principal", "canonical_service")
    ),
    Label("destination_service"),
    Label("destination_service_name"),
    Label("destination_service_namespace"),
    Label("request_protocol", ("tcp", "http")),
    Label("response_flags", ("-", "UAEX", "UF", "UC", "DPE")),
    Label("connection_security_policy", ("mutual_tls", "none", UNKNOWN)),
)
_AS_ISTIO = " With Istio's name and labels."
ISTIO_OPENED = counter(
    "istio_tcp_connections_opened_total", f"Connections that were authorized.{_AS_ISTIO}", *ISTIO_LABELS
)
ISTIO_CLOSED = counter(
    "istio_tcp_connections_closed_total", f"Authorized connections that ended.{_AS_ISTIO}", *ISTIO_LABELS
)
ISTIO_SENT = counter(
    "istio_tcp_sent_bytes_total",
    f"Application bytes to the side that opened the connection.{_AS_ISTIO}",
    *ISTIO_LABELS,
    unit="bytes",
)
ISTIO_RECEIVED = counter(
    "istio_tcp_received_bytes_total",
    f"Application bytes from the side that opened the connection.{_AS_ISTIO}",
    *ISTIO_LABELS,
    unit="bytes",
)
_CODE = Label("response_code", most=64)
ISTIO_REQUESTS = counter(
    "istio_requests_total", f"HTTP requests that were answered or refused.{_AS_ISTIO}", *ISTIO_LABELS, _CODE
)
ISTIO_REQUEST_TIME = histogram(
    "istio_request_duration_milliseconds",
    f"Time until the response to an HTTP request began.{_AS_ISTIO}",
    *ISTIO_LABELS,
    _CODE,
    buckets=(0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000),
    unit="milliseconds",
)

SPANS_SENT = counter("meshtls_trace_spans_sent_total", "Spans of traces that the collector took.")
SPANS_DROPPED = counter(
    "meshtls_trace_spans_dropped_total",
    "Spans that did not reach the collector: the queue was full, it rejected them, or the sidecar stopped before.",
    Label("reason", ("queue_full", "rejected", "stopped")),
)

#: In the order of the reference page.
FAMILIES = (
    ACCEPTED,
    OPENED,
    CLOSED,
    REFUSED,
    OPEN,
    UNPROVEN,
    LIMIT,
    RECEIVED,
    SENT,
    TUNNELS,
    OUTBOUND_TUNNELS,
    STREAMS,
    TUNNEL_MEMORY,
    WARM,
    SESSIONS,
    QUEUE,
    HANDSHAKE,
    CONNECT,
    DETECT,
    REQUESTS,
    REQUEST_TIME,
    DECISIONS,
    DRY_RUNS,
    HAS_IDENTITY,
    EXPIRY,
    AGE,
    ROTATIONS,
    WORKLOAD_API_FAILURES,
    BUNDLE_SEQUENCE,
    BUNDLE_AGE,
    TRUST_GENERATION,
    VIEW_GENERATION,
    CONFIG_REJECTED,
    CONFIG_OUTDATED,
    LEFT_OUT,
    SPANS_SENT,
    SPANS_DROPPED,
    READY,
    PROCESSES,
    BUILD,
    ISTIO_OPENED,
    ISTIO_CLOSED,
    ISTIO_SENT,
    ISTIO_RECEIVED,
    ISTIO_REQUESTS,
    ISTIO_REQUEST_TIME,
)
