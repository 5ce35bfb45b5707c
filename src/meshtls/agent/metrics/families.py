"""Every metric of an agent. Pure.

No label has a key, a token, or text that a caller chose: a method is one that the agent serves, a trust domain is one
whose bundle the server has sent, and each other label has the values that the table lists.
"""

from __future__ import annotations

from enum import Enum

from meshtls.observe.metrics import Label, counter, gauge, histogram
from meshtls.observe.metrics.build import BUILD, READY
from meshtls.observe.metrics.identity import IDENTITY_FAMILIES
from meshtls.rpc.shedding import Refusal

__all__ = ["FAMILIES", "Denial"]


class Denial(Enum):
    """Why a caller was denied: it gets PERMISSION_DENIED."""

    NO_IDENTITY = "no_identity"
    ATTESTATION_FAILED = "attestation_failed"
    AGENT_REFUSED = "agent_refused"


#: A method that the agent serves, as /package.Service/Method, and the name of a gRPC status.
METHOD, CODE = Label("method"), Label("code", most=32)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

SYNCED = gauge(
    "meshtls_agent_synced",
    "1 once the server has sent the entries; 0 before that, and while the server refuses this agent.",
)
LAG = gauge(
    "meshtls_agent_sync_lag_seconds",
    "Time since the server's latest update. It sends one every 30 seconds at least. Left out before the first one.",
    unit="seconds",
)
SYNC_FAILURES = counter(
    "meshtls_agent_sync_failures_total",
    "Attempts to follow the server that failed: refused by the server, its identity not verified, or unreachable.",
    Label("reason", ("refused", "unverified", "unreachable", "other")),
)
OWN_ROTATIONS = counter(
    "meshtls_agent_own_svid_rotations_total",
    "New SVIDs of the agent itself: by attestation, or renewed; and attempts at either that failed.",
    Label("result", ("attested", "renewed", "failed")),
)
ENTRIES = gauge("meshtls_agent_entries", "Registration entries that this agent serves.")
SVIDS = gauge(
    "meshtls_agent_svids",
    "X509-SVIDs of these entries, by their state: valid, expired, or missing where none was signed yet.",
    Label("state", ("valid", "expired", "missing")),
)
NEXT_EXPIRY = gauge(
    "meshtls_agent_next_svid_expiry_timestamp_seconds",
    "When the first of these X509-SVIDs that are valid expires, in seconds since 1970. Left out where there is none.",
    unit="seconds",
)
OLDEST = gauge(
    "meshtls_agent_oldest_svid_age_seconds",
    "Time since the oldest of these X509-SVIDs became valid. Left out where there is none.",
    unit="seconds",
)
JWT_SVIDS = gauge("meshtls_agent_jwt_svids", "JWT-SVIDs that are kept for callers who ask again.")
ROTATIONS = counter(
    "meshtls_agent_svid_rotations_total",
    "X509-SVIDs of workloads that were issued for the first time or renewed; requests that the server refused because"
    " of the entry; and those that failed otherwise.",
    Label("result", ("issued", "renewed", "refused", "failed")),
)
BUNDLES = gauge(
    "meshtls_agent_bundle_sequence",
    "The sequence number of a trust domain's bundle that workloads are served, where it has one.",
    Label("trust_domain"),
)
CRLS = gauge("meshtls_agent_crls", "Certificate revocation lists that workloads are served.")
REVOKED = gauge("meshtls_agent_revoked_certificates", "Certificates on these lists.")
RPCS = counter(
    "meshtls_agent_rpcs_total",
    "Calls of the Workload API, SDS and the health service that ended, by the name of their gRPC status.",
    METHOD,
    CODE,
)
RPC_TIME = histogram(
    "meshtls_agent_rpc_duration_seconds",
    "Time from the start of a method to its end, also where it failed. Streams of responses are not observed.",
    METHOD,
    buckets=_SECONDS,
    unit="seconds",
)
STREAMS = gauge(
    "meshtls_agent_streams", "Calls that have not ended, by API.", Label("api", ("workload", "sds", "health"))
)
WORKLOADS = gauge("meshtls_agent_workloads", "Processes with a connection to the agent's socket.")
DENIALS = counter(
    "meshtls_agent_denials_total",
    "Times that a caller was denied: no entry matches it, it could not be attested, or the server refuses this agent.",
    Label("reason", tuple(one.value for one in Denial)),
)
ATTESTATION_TIME = histogram(
    "meshtls_agent_attestation_duration_seconds",
    "Attesting a caller, also where it failed.",
    buckets=_SECONDS,
    unit="seconds",
)
REFUSED = counter(
    "meshtls_agent_connections_refused_total",
    "Connections and calls that a limit or a deadline of the socket ended, by its name in the code.",
    Label("reason", tuple(one.name for one in Refusal)),
)

#: In the order of the reference page.
FAMILIES = (
    SYNCED,
    LAG,
    SYNC_FAILURES,
    OWN_ROTATIONS,
    ENTRIES,
    SVIDS,
    NEXT_EXPIRY,
    OLDEST,
    JWT_SVIDS,
    ROTATIONS,
    BUNDLES,
    CRLS,
    REVOKED,
    RPCS,
    RPC_TIME,
    STREAMS,
    WORKLOADS,
    DENIALS,
    ATTESTATION_TIME,
    REFUSED,
    *IDENTITY_FAMILIES,
    READY,
    BUILD,
)
