"""The alerts about sidecars and services, with series that fire them."""

from __future__ import annotations

from tests.integration.observe.alert_cases import FROM, Case, series

__all__ = ["SIDECAR_CASES", "VALID", "failed"]

A, B = "spiffe://example.org/a", "spiffe://example.org/b"
PAIR = {"source": A, "destination": B}
INBOUND = {"direction": "inbound", **PAIR}
#: Ten, and one, a minute for half an hour, and none.
TEN, ONE, NONE = "0+10x30", "0+1x30", "0x30"
ACCEPTED = series("meshtls_connections_accepted_total", direction="inbound")
BUILD = series("meshtls_build_info", component="sidecar", version="1", python="3.11", openssl="3")
AGE = series("meshtls_svid_age_seconds", spiffe_id=A)
EXPIRY = series("meshtls_svid_expiry_timestamp_seconds", spiffe_id=A)
VALID = series("meshtls_svid_valid")


def failed(reason: str) -> str:
    return series("meshtls_workload_api_failures_total", reason=reason)


def closed(outcome: str, direction: str = "inbound") -> str:
    return series("meshtls_connections_closed_total", direction=direction, **PAIR, outcome=outcome)


def refused(outcome: str, direction: str = "inbound") -> str:
    return series("meshtls_connections_refused_total", direction=direction, **PAIR, outcome=outcome)


def requests(code_class: str, outcome: str, verdict: str) -> str:
    return series("meshtls_http_requests_total", **PAIR, code_class=code_class, outcome=outcome, verdict=verdict)


SIDECAR_CASES = {
    "MeshtlsDown": Case(
        severity="critical",
        values={series("up"): "1x20 0x9", BUILD: "1x20"},
        twins={
            "it is scraped": {series("up"): "1x30", BUILD: "1x30"},
            "it is no meshtls process": {BUILD: "_x30"},
            "it has just gone": {series("up"): "1x28 0x2", BUILD: "1x28"},
        },
        summary="node:9 can't be scraped",
        description="Prometheus gets no metrics of mesh at node:9, which had some within the last day. The process has"
        " ended, or the address of its metrics can't be reached.",
    ),
    "MeshtlsNotReady": Case(
        severity="critical",
        values={series("meshtls_ready"): "1x10 0x20"},
        twins={
            "it is ready": {series("meshtls_ready"): "1x30"},
            "it starts": {series("meshtls_ready"): "1x26 0x4"},
        },
        summary="node:9 is not ready",
        description=f"{FROM} has not been ready for 5 minutes: it has no valid SVID, can't renew it, does not listen,"
        " or drains. /ready says which.",
    ),
    "MeshtlsConfigRejected": Case(
        severity="warning",
        values={series("meshtls_config_outdated"): "0x10 1x20"},
        twins={"the configuration is taken": {series("meshtls_config_outdated"): "0x30"}},
        summary="the sidecar at node:9 rejected its latest configuration or policies",
        description="mesh at node:9 enforces an older configuration, or older policies, since the latest ones have an"
        " error. A change that you made is not in force.",
    ),
    "MeshtlsInternalError": Case(
        severity="warning",
        # The first such end, for which there was no series before.
        values={closed("OK"): TEN, closed("INTERNAL_ERROR"): "_x25 1x5"},
        twins={
            "they ended otherwise": {closed("INTERNAL_ERROR"): "_x30", closed("RESET"): "_x25 1x5"},
            "it was long ago": {closed("INTERNAL_ERROR"): "1x30"},
        },
        summary="the sidecar at node:9 ended connections because of an error of its own",
        description="mesh at node:9 ended connections with the outcome INTERNAL_ERROR within the last 15 minutes. Its"
        " log has the traceback.",
    ),
    "MeshtlsMetricsOverflow": Case(
        severity="info",
        values={series("meshtls_metrics_other_total", metric="meshtls_sent_bytes_total"): TEN},
        twins={
            "the bounds are kept": {series("meshtls_metrics_other_total", metric="meshtls_sent_bytes_total"): "5x30"}
        },
        labels={"metric": "meshtls_sent_bytes_total"},
        summary="node:9 counts some of meshtls_sent_bytes_total under the value other",
        description="meshtls_sent_bytes_total of mesh at node:9 has more label sets than are told apart. Totals are"
        " right, but identities that came late are under the value other.",
    ),
    "MeshtlsSvidInvalid": Case(
        severity="critical",
        values={series("meshtls_svid_valid"): "1x20 0x10"},
        twins={"it is valid": {series("meshtls_svid_valid"): "1x30"}},
        summary="node:9 has no valid SVID",
        description="mesh at node:9 has no valid X509-SVID: none was issued, the last one expired, or the Workload API"
        " withdrew it. Every connection through it fails.",
    ),
    "MeshtlsSvidNotRotated": Case(
        severity="warning",
        # It lives from 0 to 2250 s, and is asked for at 1800 s.
        values={AGE: "0+60x30", EXPIRY: "2250x30"},
        twins={
            "it is renewed at half of its life": {AGE: "0+60x19 0+60x10", EXPIRY: "2250x19 3450x10"},
            "it lives longer": {EXPIRY: "3600x30"},
            "it has expired": {EXPIRY: "1700x30"},
        },
        labels={"spiffe_id": A},
        summary=f"the SVID of {A} was not rotated in time",
        description=f"The X509-SVID of {A} at node:9 has used 80% of its life. It should have been renewed at half of"
        " it.",
    ),
    "MeshtlsSvidExpiresSoon": Case(
        severity="critical",
        values={AGE: "0+60x30", EXPIRY: "1920x30"},
        twins={
            "it is renewed": {AGE: "0+60x19 0+60x10", EXPIRY: "2250x19 3450x10"},
            "much is left": {EXPIRY: "2250x30"},
            "it has expired": {EXPIRY: "1700x30"},
        },
        labels={"spiffe_id": A},
        summary=f"the SVID of {A} is about to expire",
        description=f"The X509-SVID of {A} at node:9 has used 93.75% of its life, and every attempt to renew it failed."
        " Once it expires, every connection through this process fails.",
    ),
    "MeshtlsSvidWithdrawn": Case(
        severity="warning",
        values={series("meshtls_svid_rotations_total", result="withdrawn"): "_x25 1x5"},
        twins={
            "it was renewed": {
                series("meshtls_svid_rotations_total", result="withdrawn"): "_x30",
                series("meshtls_svid_rotations_total", result="renewed"): "_x25 1x5",
            },
            "it was long ago": {series("meshtls_svid_rotations_total", result="withdrawn"): "1x30"},
        },
        labels={"result": "withdrawn"},
        summary="the Workload API withdrew the SVID of node:9",
        description="The Workload API withdrew the X509-SVID of mesh at node:9 within the last 15 minutes: its"
        " registration entry was deleted or changed, or its agent was evicted.",
    ),
    "MeshtlsWorkloadApiFails": Case(
        severity="warning",
        # The backoff of the attempts is half a minute.
        values={failed("unreachable"): "0+2x30", VALID: "1x30"},
        twins={
            "it answers": {failed("unreachable"): NONE},
            "it answers again": {failed("unreachable"): "0+2x20 40x10"},
            "it failed once": {failed("unreachable"): "0x26 1x4"},
        },
        labels={"reason": "unreachable"},
        summary="node:9 gets no SVID from the Workload API: unreachable",
        description=f"{FROM} has got no X509-SVID from the Workload API for 5 minutes, with the reason unreachable. An"
        " SVID that it has is used until it expires.",
    ),
    "MeshtlsHandshakesFail": Case(
        severity="warning",
        values={ACCEPTED: TEN, refused("HANDSHAKE_FAILED"): ONE},
        twins={
            "they succeed": {refused("HANDSHAKE_FAILED"): NONE},
            "few fail": {ACCEPTED: "0+100x30"},
            "a policy denies them": {refused("HANDSHAKE_FAILED"): NONE, refused("POLICY_DENIED"): ONE},
            "a TCP probe closes them": {refused("HANDSHAKE_FAILED"): NONE, refused("CLOSED_EARLY"): ONE},
        },
        labels={"direction": "inbound"},
        summary="10% of inbound handshakes fail at node:9",
        description="10% of the inbound connections of mesh at node:9 end in the TLS handshake or with the verification"
        " of the peer.",
    ),
    "MeshtlsPeerUntrusted": Case(
        severity="warning",
        values={refused("PEER_UNTRUSTED"): ONE},
        twins={
            "it is denied": {refused("PEER_UNTRUSTED"): NONE, refused("POLICY_DENIED"): ONE},
            "none comes any more": {refused("PEER_UNTRUSTED"): "5x30"},
        },
        labels={**INBOUND, "outcome": "PEER_UNTRUSTED"},
        summary=f"{A} and {B} do not trust each other's CA",
        description=f"{FROM} refuses inbound connections from {A} to {B} with PEER_UNTRUSTED: it lacks a bundle or a"
        " root, or the peer's certificate is from another CA.",
    ),
    "MeshtlsPeerRevoked": Case(
        severity="warning",
        values={refused("PEER_REVOKED"): "_x25 1x5"},
        twins={
            "it is denied": {refused("PEER_REVOKED"): "_x30", refused("POLICY_DENIED"): "_x25 1x5"},
            "it was long ago": {refused("PEER_REVOKED"): "1x30"},
        },
        labels=INBOUND,
        summary=f"a revoked certificate was presented between {A} and {B}",
        description=f"{FROM} refused inbound connections from {A} to {B} with PEER_REVOKED. Someone still uses a"
        " certificate, or an identity, that was revoked.",
    ),
    "MeshtlsClockSkew": Case(
        severity="warning",
        values={refused("PEER_CERT_NOT_CURRENT"): ONE},
        twins={"it is current": {refused("PEER_CERT_NOT_CURRENT"): NONE}},
        labels=INBOUND,
        summary=f"certificates between {A} and {B} are not current",
        description=f"{FROM} refuses inbound connections from {A} to {B} with PEER_CERT_NOT_CURRENT: the clocks of the"
        " two machines differ, or the peer presents an expired SVID.",
    ),
    "MeshtlsPlaintextRefused": Case(
        severity="info",
        values={refused("PLAINTEXT_REFUSED"): ONE},
        twins={"it speaks TLS": {refused("PLAINTEXT_REFUSED"): NONE, refused("HANDSHAKE_FAILED"): ONE}},
        summary="a client of node:9 speaks plaintext, or lacks a PROXY header",
        description=f"{FROM} refuses connections with PLAINTEXT_REFUSED or PROXY_HEADER_REFUSED. The client does not go"
        " through a sidecar, or not through the expected proxy.",
    ),
    "MeshtlsDenialsUp": Case(
        severity="warning",
        values={refused("POLICY_DENIED"): "0+1x90 150+60x10"},
        twins={
            "it is as before": {refused("POLICY_DENIED"): "0+60x100"},
            "there are few": {refused("POLICY_DENIED"): "0x90 0+1x10"},
            "they fail otherwise": {refused("POLICY_DENIED"): "0x100", refused("RESET"): "0+1x90 150+60x10"},
        },
        at=100,
        labels=PAIR,
        summary=f"policies deny {A} at {B} more often than before",
        description=f"{FROM} denies {A} 1 connections a second, more than three times as many as in the hour before.",
    ),
    "MeshtlsRequestsDenied": Case(
        severity="warning",
        values={requests("2xx", "OK", "allowed"): "0+3x30", requests("4xx", "POLICY_DENIED", "denied"): ONE},
        twins={
            "all are allowed": {requests("4xx", "POLICY_DENIED", "denied"): NONE},
            "few are denied": {requests("2xx", "OK", "allowed"): "0+30x30"},
            "the app says so": {
                requests("4xx", "POLICY_DENIED", "denied"): NONE,
                requests("4xx", "OK", "allowed"): ONE,
            },
        },
        labels=PAIR,
        summary=f"25% of the requests from {A} are denied",
        description=f"{FROM} denies 25% of the HTTP requests from {A} to {B}, by a policy or because of a token.",
    ),
    "MeshtlsAppUnreachable": Case(
        severity="critical",
        values={closed("OK"): "0+3x30", closed("CONNECT_FAILED"): ONE},
        twins={
            "the app answers": {closed("CONNECT_FAILED"): NONE},
            "it hardly ever fails": {closed("OK"): "0+99x30"},
            "they are outbound": {closed("CONNECT_FAILED"): NONE, closed("CONNECT_FAILED", "outbound"): ONE},
        },
        labels={"destination": B},
        summary=f"the app of {B} does not answer its sidecar",
        description="25% of the connections or HTTP requests that mesh at node:9 let in ended with CONNECT_FAILED or"
        " APP_FAILED: the app is not running, or breaks off.",
    ),
    "MeshtlsPeerUnreachable": Case(
        severity="warning",
        values={refused("CONNECT_FAILED", "outbound"): ONE},
        twins={
            "it is reached": {refused("CONNECT_FAILED", "outbound"): NONE},
            "it is reached, and denies": {
                refused("CONNECT_FAILED", "outbound"): NONE,
                refused("HANDSHAKE_FAILED", "outbound"): ONE,
            },
        },
        labels={"destination": B},
        summary=f"{B} can't be reached from node:9",
        description=f"{FROM} can't connect to {B}: nothing listens at its address, or the network drops the packets.",
    ),
    "MeshtlsHttpErrors": Case(
        severity="warning",
        values={requests("2xx", "OK", "allowed"): "0+9x30", requests("5xx", "OK", "allowed"): ONE},
        twins={
            "they are answered": {requests("5xx", "OK", "allowed"): NONE, requests("4xx", "OK", "allowed"): ONE},
            "few fail": {requests("2xx", "OK", "allowed"): "0+99x30"},
        },
        labels={"destination": B},
        summary=f"10% of the requests to {B} end with 5xx",
        description=f"10% of the HTTP requests to {B}, as mesh at node:9 counts them, were answered with a status from"
        " 500 to 599.",
    ),
    "MeshtlsConnectionLimitNear": Case(
        severity="warning",
        values={
            series("meshtls_open_connections", direction="inbound", kind="connection"): "60x30",
            series("meshtls_open_connections", direction="outbound", kind="connection"): "40x30",
            series("meshtls_unproven_connections"): "10x30",
            series("meshtls_connections_limit"): "100x30",
        },
        twins={
            "the limit is higher": {series("meshtls_connections_limit"): "200x30"},
            "the peers are not proven": {series("meshtls_unproven_connections"): "50x30"},
        },
        summary="the sidecar at node:9 is close to its connection limit",
        description=f"{FROM} uses 90% of limits.connections. Above the limit it refuses connections.",
    ),
    "MeshtlsConnectionLimitReached": Case(
        severity="critical",
        values={refused("CONNECTION_LIMIT"): "0+120x30"},
        twins={"it accepts them": {refused("CONNECTION_LIMIT"): "120x30"}},
        summary="the sidecar at node:9 refuses connections at its limit",
        description=f"{FROM} refuses 2 connections a second with CONNECTION_LIMIT.",
    ),
    "MeshtlsHandshakesSlow": Case(
        severity="warning",
        values={
            series("meshtls_handshake_duration_seconds_bucket", direction="inbound", le=le): values
            for le, values in (("1.0", NONE), ("2.5", TEN), ("+Inf", TEN))
        },
        twins={
            "they are fast": {
                series("meshtls_handshake_duration_seconds_bucket", direction="inbound", le="1.0"): TEN,
            },
        },
        labels={"direction": "inbound"},
        summary="inbound handshakes at node:9 are slow",
        description="One in a hundred inbound TLS handshakes of mesh at node:9 takes 2.485s or longer: the machine is"
        " busy, or peers are.",
    ),
    "MeshtlsAccessLogLeftOut": Case(
        severity="warning",
        values={series("meshtls_access_log_left_out_total"): TEN},
        twins={"every line is written": {series("meshtls_access_log_left_out_total"): "7x30"}},
        summary="the sidecar at node:9 leaves out lines of its access log",
        description=f"So many strangers connect to {FROM} that it does not log each of them: 50 lines were left out"
        " within 5 minutes.",
    ),
}
