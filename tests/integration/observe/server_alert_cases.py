"""The alerts about agents, servers and federation, with series that fire them."""

from __future__ import annotations

from tests.integration.observe.alert_cases import FROM, Case, series

__all__ = ["SERVER_CASES"]

#: One a minute for half an hour, and none.
ONE, NONE = "0+1x30", "0x30"
DAY = 86400
PARTNER = "other.org"


def lost(reason: str) -> str:
    return series("meshtls_agent_sync_failures_total", reason=reason)


def rotated(result: str, name: str = "meshtls_agent_svid_rotations_total") -> str:
    return series(name, result=result)


def unsigned(reason: str) -> str:
    return series("meshtls_server_signing_failures_total", type="x509", reason=reason)


def called(code: str) -> str:
    return series("meshtls_server_rpcs_total", method="/meshtls.Server/SignX509Svid", code=code)


def remaining(state: str) -> str:
    return series("meshtls_server_authority_remaining_seconds", kind="x509", state=state)


def expiry(certificate: str) -> str:
    return series("meshtls_server_ca_expiry_timestamp_seconds", certificate=certificate)


def elsewhere(name: str, instance: str, **labels: str) -> str:
    """A series of another process."""
    return series(name, **labels).replace("node:9", instance)


AGENT_CASES = {
    "MeshtlsServerUnreachable": Case(
        severity="critical",
        values={series("meshtls_agent_sync_lag_seconds"): "0x20 0+60x10"},
        twins={
            "it hears of the server": {series("meshtls_agent_sync_lag_seconds"): "30x30"},
            "it has never heard of it": {series("meshtls_agent_sync_lag_seconds"): "_x30"},
        },
        summary="the agent at node:9 can't reach its server",
        description=f"{FROM} last heard of a server 9m 0s ago. It serves the SVIDs that it has, and can renew none.",
    ),
    "MeshtlsServerUnverified": Case(
        severity="critical",
        values={lost("unverified"): ONE},
        twins={
            "it is verified": {lost("unverified"): NONE},
            "it is not reached": {lost("unverified"): NONE, lost("unreachable"): ONE},
        },
        summary="the agent at node:9 does not trust what answers as its server",
        description=f"What answers {FROM} at its server's address could not prove that it is the server: the agent's"
        " bundle is old, or it is an impostor. The agent gives it nothing.",
    ),
    "MeshtlsAgentNotSynced": Case(
        severity="critical",
        values={series("meshtls_agent_synced"): "1x10 0x20"},
        twins={
            "it has them": {series("meshtls_agent_synced"): "1x30"},
            "it starts": {series("meshtls_agent_synced"): "1x26 0x4"},
        },
        summary="the agent at node:9 has no entries of its server",
        description=f"{FROM} gets no entries: the server refuses it, or has not answered since it started. New"
        " workloads get no identity.",
    ),
    "MeshtlsRotationFails": Case(
        severity="warning",
        values={rotated("failed"): ONE},
        twins={
            "it succeeds": {rotated("failed"): NONE, rotated("renewed"): ONE},
            "it failed once, before": {rotated("failed"): "0x5 1x25"},
        },
        labels={"result": "failed"},
        summary="the agent at node:9 can't renew SVIDs of its workloads",
        description=f"{FROM} could not renew 10 times within 10 minutes (result failed). The SVIDs in use are valid"
        " until they expire.",
    ),
    "MeshtlsAgentRotationFails": Case(
        severity="warning",
        values={rotated("failed", "meshtls_agent_own_svid_rotations_total"): ONE},
        twins={
            "it succeeds": {
                rotated("failed", "meshtls_agent_own_svid_rotations_total"): NONE,
                rotated("renewed", "meshtls_agent_own_svid_rotations_total"): ONE,
            },
        },
        labels={"result": "failed"},
        summary="the agent at node:9 can't renew its own SVID",
        description=f"{FROM} could not renew the SVID by which its server knows it. Once that expires, it has to attest"
        " again, and gets no SVID for any workload until then.",
    ),
    "MeshtlsWorkloadSvidExpired": Case(
        severity="critical",
        values={series("meshtls_agent_svids", state="expired"): "0x10 2x20"},
        twins={
            "they are valid": {
                series("meshtls_agent_svids", state="expired"): NONE,
                series("meshtls_agent_svids", state="valid"): "2x30",
            },
            "an entry is new": {
                series("meshtls_agent_svids", state="expired"): NONE,
                series("meshtls_agent_svids", state="missing"): "0x29 1x1",
            },
        },
        labels={"state": "expired"},
        summary="the agent at node:9 has workloads without a valid SVID",
        description=f"2 SVIDs of the workloads of {FROM} are expired. These workloads can't be reached, and can't reach"
        " others.",
    ),
    "MeshtlsWorkloadsDenied": Case(
        severity="warning",
        values={series("meshtls_agent_denials_total", reason="no_identity"): ONE},
        twins={
            "it was denied once": {series("meshtls_agent_denials_total", reason="no_identity"): "0x20 1x10"},
            "none is denied": {series("meshtls_agent_denials_total", reason="no_identity"): NONE},
        },
        labels={"reason": "no_identity"},
        summary="the agent at node:9 denies processes an identity",
        description=f"{FROM} denies processes that ask it for an identity, with the reason no_identity: no entry"
        " matches them, or their selectors can't be found out.",
    ),
}

SERVER_ONLY_CASES = {
    "MeshtlsSigningFails": Case(
        severity="critical",
        values={unsigned("authority"): ONE},
        twins={
            "it signs": {unsigned("authority"): NONE},
            "the requests are invalid": {unsigned("authority"): NONE, unsigned("request"): ONE},
        },
        labels={"type": "x509"},
        summary="the server at node:9 can't sign",
        description=f"{FROM} failed to sign 10 times within 10 minutes (type x509): its key, its token or its upstream"
        " can't be used. SVIDs in use are valid until they expire.",
    ),
    "MeshtlsAuthorityExpiresSoon": Case(
        severity="critical",
        values={remaining("active"): f"{4 * DAY}x30"},
        twins={
            "the next one is active": {remaining("active"): f"{360 * DAY}x30", remaining("old"): f"{4 * DAY}x30"},
            "it is still early": {remaining("active"): f"{6 * DAY}x30"},
        },
        labels={"kind": "x509", "state": "active"},
        summary="the x509 authority of node:9 expires in 4d 0h 0m 0s",
        description=f"The active x509 authority of {FROM} expires in 4d 0h 0m 0s. The next one should have been"
        " activated 7 days before that.",
    ),
    "MeshtlsIntermediateExpiresSoon": Case(
        severity="critical",
        values={expiry("intermediate"): "3600x30", expiry("root"): f"{300 * DAY}x30"},
        twins={
            "it was renewed": {expiry("intermediate"): "3600x9 7200x20"},
            "there is none": {expiry("intermediate"): "_x30"},
        },
        labels={"certificate": "intermediate"},
        summary="the intermediate of the server at node:9 expires in 30m 0s",
        description=f"The CA certificate by which {FROM} signs expires in 30m 0s. It should have been renewed at half"
        " of its life. No SVID outlives it.",
    ),
    "MeshtlsStoreFails": Case(
        severity="critical",
        values={series("meshtls_server_store_failures_total", operation="write"): ONE},
        twins={"it answers": {series("meshtls_server_store_failures_total", operation="write"): "3x30"}},
        labels={"operation": "write"},
        summary="the server at node:9 can't use its data store",
        description=f"5 calls of {FROM} to its data store failed within 5 minutes (operation write). What can't be"
        " recorded is not issued.",
    ),
    "MeshtlsStoreSyncLag": Case(
        severity="warning",
        values={series("meshtls_server_store_sync_lag_seconds"): "0x20 60+60x10"},
        twins={"it follows": {series("meshtls_server_store_sync_lag_seconds"): "5x30"}},
        summary="the server at node:9 does not follow its data store",
        description=f"{FROM} has last seen the changes of other servers 10m 0s ago. Entries, bans and revocations that"
        " were made since have no effect on its agents.",
    ),
    "MeshtlsRpcsFail": Case(
        severity="warning",
        values={called("OK"): "0+9x30", called("INTERNAL"): ONE},
        twins={
            "they succeed": {called("INTERNAL"): NONE},
            "the callers may not": {called("INTERNAL"): NONE, called("PERMISSION_DENIED"): ONE},
            "few fail": {called("OK"): "0+99x30"},
        },
        summary="10% of the calls to the server at node:9 fail",
        description=f"{FROM} answers 10% of its calls with INTERNAL, UNKNOWN, UNAVAILABLE or DATA_LOSS.",
    ),
    "MeshtlsServerRefusesConnections": Case(
        severity="warning",
        values={
            series("meshtls_server_connections_refused_total", listener="grpc", reason="handshake"): "0+120x30",
        },
        twins={
            "there are few": {
                series("meshtls_server_connections_refused_total", listener="grpc", reason="handshake"): ONE
            },
        },
        labels={"listener": "grpc", "reason": "handshake"},
        summary="the server at node:9 refuses connections",
        description=f"{FROM} refuses 2 connections a second at its listener grpc, with the reason handshake.",
    ),
    "MeshtlsAgentsDisconnected": Case(
        severity="warning",
        values={series("meshtls_server_agents_connected"): "10x10 4x20"},
        twins={
            "more than half are left": {series("meshtls_server_agents_connected"): "10x10 6x20"},
            "they are at another server": {
                elsewhere("meshtls_server_agents_connected", "node:8"): "0x10 6x20",
            },
            "they went long ago": {series("meshtls_server_agents_connected"): "4x30"},
        },
        whose={"job": "mesh"},
        summary="fewer than half of the agents are connected to the servers of mesh",
        description="Only 4 agents are connected to the servers of mesh, fewer than half of the most within the last"
        " hour.",
    ),
    "MeshtlsLogUnsigned": Case(
        severity="warning",
        values={series("meshtls_server_log_failures_total"): ONE},
        twins={"it is signed": {series("meshtls_server_log_failures_total"): NONE}},
        summary="the server at node:9 can't sign the transparency log",
        description=f"{FROM} could not sign the head of the transparency log 10 times within 10 minutes. What was"
        " issued is appended, and not yet provable.",
    ),
    "MeshtlsLogRefused": Case(
        severity="critical",
        values={series("meshtls_server_log_refused"): "0x10 1x20"},
        twins={"it is the one that was signed": {series("meshtls_server_log_refused"): NONE}},
        summary="the server at node:9 refuses its transparency log",
        description=f"The transparency log in the data store of {FROM} does not continue the one that it signed: the"
        " data store was restored, or rewritten. It issues nothing.",
    ),
}

FEDERATION_CASES = {
    "MeshtlsFederationFails": Case(
        severity="warning",
        values={series("meshtls_server_federation_stale", trust_domain=PARTNER): "0x10 1x20"},
        twins={
            "it is fetched": {series("meshtls_server_federation_stale", trust_domain=PARTNER): NONE},
            "it failed once": {series("meshtls_server_federation_stale", trust_domain=PARTNER): "0x10 1x5 0x15"},
        },
        labels={"trust_domain": PARTNER},
        summary=f"the bundle of {PARTNER} can't be fetched",
        description=f"The last attempt of {FROM} to fetch the bundle of {PARTNER} failed. It keeps the one that it"
        " has.",
    ),
    "MeshtlsFederationStale": Case(
        severity="critical",
        values={series("meshtls_server_federation_last_success_timestamp_seconds", trust_domain=PARTNER): "-88200x30"},
        twins={
            "it is fetched": {
                series("meshtls_server_federation_last_success_timestamp_seconds", trust_domain=PARTNER): "0+60x30"
            },
        },
        labels={"trust_domain": PARTNER},
        summary=f"the bundle of {PARTNER} is 1d 1h 0m 0s old",
        description=f"{FROM} last fetched the bundle of {PARTNER} 1d 1h 0m 0s ago. Once that trust domain changes its"
        " root, its workloads are refused here.",
    ),
    "MeshtlsBundleOutdated": Case(
        severity="warning",
        values={
            series("meshtls_agent_bundle_sequence", trust_domain=PARTNER): "4x30",
            elsewhere("meshtls_agent_bundle_sequence", "node:8", trust_domain=PARTNER): "4x10 5x20",
        },
        twins={
            "all have the same": {series("meshtls_agent_bundle_sequence", trust_domain=PARTNER): "4x10 5x20"},
            "the other bundle is another trust domain's": {
                elsewhere("meshtls_agent_bundle_sequence", "node:8", trust_domain=PARTNER): "4x30",
                elsewhere("meshtls_agent_bundle_sequence", "node:8", trust_domain="example.org"): "5x30",
            },
            "it was just changed": {
                elsewhere("meshtls_agent_bundle_sequence", "node:8", trust_domain=PARTNER): "4x25 5x5",
            },
            "the other is of another mesh of that name": {
                elsewhere("meshtls_agent_bundle_sequence", "node:8", trust_domain=PARTNER): "4x30",
                elsewhere("meshtls_agent_bundle_sequence", "node:7", trust_domain=PARTNER, mesh="staging"): "5x30",
            },
        },
        labels={"trust_domain": PARTNER},
        summary=f"node:9 has an old bundle of {PARTNER}",
        description=f"{FROM} has the bundle of {PARTNER} with the sequence number 4, and others have a newer one. It"
        " may refuse peers, and accept a root that was removed.",
    ),
}

SERVER_CASES = {**AGENT_CASES, **SERVER_ONLY_CASES, **FEDERATION_CASES}
