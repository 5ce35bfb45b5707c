"""Every metric of a server. Pure.

No label has a key, a token, or text that a caller chose: a method is one that the server has, a trust domain is one
that it federates with, and each other label has the values that the table lists. What is asked of the data store is as
of at most two seconds ago, and left out while the store does not answer.
"""

from __future__ import annotations

from meshtls.ca.authority_states import PUBLISHED
from meshtls.observe.metrics import Label, counter, gauge, histogram
from meshtls.observe.metrics.build import BUILD, READY
from meshtls.observe.metrics.identity import IDENTITY_FAMILIES
from meshtls.rpc.shedding import Refusal

__all__ = ["FAMILIES", "STATES"]

#: The states of the authorities that are in the bundle.
STATES = tuple(state.name.lower() for state in sorted(PUBLISHED))
KIND = Label("kind", ("x509", "jwt"))
STATE = Label("state", STATES)
TYPE = Label("type", ("x509", "jwt", "ca"))
OPERATION = Label("operation", ("read", "write"))
PARTNER = Label("trust_domain")
#: A method of the server's, as /package.Service/Method, and the name of a gRPC status.
METHOD, CODE = Label("method"), Label("code", most=32)

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

RPCS = counter("meshtls_server_rpcs_total", "Calls that ended, by the name of their gRPC status.", METHOD, CODE)
RPC_TIME = histogram(
    "meshtls_server_rpc_duration_seconds",
    "Time from the start of a method to its end, also where it failed. Streams of responses are not observed.",
    METHOD,
    buckets=_SECONDS,
    unit="seconds",
)
REFUSED = counter(
    "meshtls_server_connections_refused_total",
    "Connections and calls that a limit or a deadline of a listener ended, by its name in the code.",
    Label("listener", most=16),
    Label("reason", tuple(one.name for one in Refusal)),
)
AUTHORITIES = gauge(
    "meshtls_server_authorities", "Authorities of this server, and of those above it, in the bundle.", KIND, STATE
)
REMAINING = gauge(
    "meshtls_server_authority_remaining_seconds",
    "Time until the first of these authorities ends; negative once it has ended.",
    KIND,
    STATE,
    unit="seconds",
)
AUTHORITY_EXPIRY = gauge(
    "meshtls_server_authority_expiry_timestamp_seconds",
    "When the first of these authorities ends, in seconds since 1970.",
    KIND,
    STATE,
    unit="seconds",
)
CA_EXPIRY = gauge(
    "meshtls_server_ca_expiry_timestamp_seconds",
    "When the certificates that this server signs with expire, in seconds since 1970: the root, and the newest"
    " intermediate.",
    Label("certificate", ("root", "intermediate")),
    unit="seconds",
)
SIGNING_TIME = histogram(
    "meshtls_server_signing_duration_seconds",
    "Signing an SVID, or the CA of a server below, also where it failed. Recording it is not included.",
    TYPE,
    buckets=_SECONDS,
    unit="seconds",
)
SIGNING_FAILURES = counter(
    "meshtls_server_signing_failures_total",
    "SVIDs and CAs that were not signed: the request was invalid, or the authority can't sign.",
    TYPE,
    Label("reason", ("request", "authority")),
)
ISSUED = counter(
    "meshtls_server_svids_issued_total",
    "SVIDs, and CAs of servers below, that are durable in the data store and may leave this server.",
    TYPE,
)
STORE_TIME = histogram(
    "meshtls_server_store_duration_seconds",
    "Transactions on the data store, including the wait for a connection, also where they failed.",
    OPERATION,
    buckets=_SECONDS,
    unit="seconds",
)
STORE_FAILURES = counter(
    "meshtls_server_store_failures_total", "Transactions in which the data store failed.", OPERATION
)
STORE_UP = gauge("meshtls_server_store_up", "1 where the data store answered for this scrape, else 0.")
LAG = gauge(
    "meshtls_server_store_sync_lag_seconds",
    "Time for which this server may not have seen what the data store has: since its last successful look, where other"
    " servers may write to the store; else since it failed to read back a change, and 0 where it did not.",
    unit="seconds",
)
SYNC_FAILURES = counter("meshtls_server_store_sync_failures_total", "Looks for changes in the data store that failed.")
REVISION = gauge("meshtls_server_revision", "The revision of the data store that this server has applied.")
ENTRIES = gauge("meshtls_server_entries", "Registration entries in the data store, including those that are blocked.")
AGENTS = gauge("meshtls_server_agents", "Agents in the data store.", Label("state", ("attested", "expired", "banned")))
CONNECTED = gauge("meshtls_server_agents_connected", "Agents that follow the changes of this server.")
REVOCATIONS = gauge(
    "meshtls_server_revocations",
    "What is revoked now: certificates on the CRLs of all servers, and SPIFFE IDs and entries that are blocked.",
    Label("kind", ("certificate", "spiffe_id", "entry")),
)
PARTNER_SUCCESS = gauge(
    "meshtls_server_federation_last_success_timestamp_seconds",
    "When this server last fetched the bundle of a trust domain, in seconds since 1970.",
    PARTNER,
    unit="seconds",
)
PARTNER_SEQUENCE = gauge(
    "meshtls_server_federation_bundle_sequence", "The sequence number of a trust domain's bundle in use.", PARTNER
)
PARTNER_FETCHES = counter(
    "meshtls_server_federation_fetches_total",
    "Attempts to fetch the bundle of a trust domain.",
    PARTNER,
    Label("result", ("success", "failure")),
)
PARTNER_STALE = gauge(
    "meshtls_server_federation_stale",
    "1 where there is no bundle of a trust domain, or the last attempt to fetch it failed, else 0.",
    PARTNER,
)
AUDIT_RECORDS = gauge(
    "meshtls_server_audit_records", "The number of the newest record of the audit trail: all that were ever appended."
)
LOG_LEAVES = gauge(
    "meshtls_server_log_leaves",
    "Leaves of the transparency log: those that this server knows of, and those that it has signed.",
    Label("state", ("appended", "signed")),
)
LOG_FAILURES = counter("meshtls_server_log_failures_total", "Attempts to sign the transparency log that failed.")
LOG_REFUSED = gauge(
    "meshtls_server_log_refused",
    "1 where the transparency log does not continue what this server has signed, so that it issues nothing, else 0.",
)

#: In the order of the reference page.
FAMILIES = (
    RPCS,
    RPC_TIME,
    REFUSED,
    AUTHORITIES,
    REMAINING,
    AUTHORITY_EXPIRY,
    CA_EXPIRY,
    SIGNING_TIME,
    SIGNING_FAILURES,
    ISSUED,
    STORE_TIME,
    STORE_FAILURES,
    STORE_UP,
    LAG,
    SYNC_FAILURES,
    REVISION,
    ENTRIES,
    AGENTS,
    CONNECTED,
    REVOCATIONS,
    PARTNER_SUCCESS,
    PARTNER_SEQUENCE,
    PARTNER_FETCHES,
    PARTNER_STALE,
    AUDIT_RECORDS,
    LOG_LEAVES,
    LOG_FAILURES,
    LOG_REFUSED,
    *IDENTITY_FAMILIES,
    READY,
    BUILD,
)
