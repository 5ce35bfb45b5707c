"""What a record of a connection or a request says of its end: in a sentence that names both ends, and what to do. Pure.

A record may come from a caller, or from a process that lies: its values are only shown. What of them is in a command to
be copied is quoted for a shell.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from meshtls.observe.events import Outcome

__all__ = ["NEXT_STEPS", "next_step", "sentence"]

Line = Mapping[str, Any]

#: What to do about each outcome. ``{who}`` is the workload whose sidecar has the record, ``{other}`` the other end.
NEXT_STEPS: dict[Outcome, str] = {
    Outcome.OK: "nothing: it was allowed, and both sides closed it",
    Outcome.POLICY_DENIED: "if it is to be allowed, add the caller to the inbound's allow or to a policy: `{explain}`"
    " shows what would let it in",
    Outcome.NO_CLIENT_CERTIFICATE: "send the call through a sidecar, or give the caller an X509-SVID",
    Outcome.PEER_CERT_INVALID: "have the SVID of {other} issued by this mesh; docs/certificates.md has each rule",
    Outcome.PEER_CERT_NOT_CURRENT: "compare the clocks of both machines; then see whether the SVID of {other} is"
    " renewed (`meshtls admin certs` of its sidecar)",
    Outcome.PEER_UNTRUSTED: "compare `meshtls admin certs` of both sidecars: the chain of {other} has to end in a root"
    " of the bundle of {who}",
    Outcome.PEER_REVOKED: "see `meshtls revoked`; `meshtls readmit` has an identity issued again",
    Outcome.NO_BUNDLE: "federate with that trust domain: `meshtls federation create`, and federates_with in the entry"
    " of {who}",
    Outcome.PLAINTEXT_REFUSED: "send the call through a sidecar, or set mode PERMISSIVE while you migrate",
    Outcome.HANDSHAKE_FAILED: "see the log of {other}: it may have refused, by the alert above",
    Outcome.HANDSHAKE_TIMEOUT: "see whether {other} speaks TLS and is reached; limits.handshake_timeout is the bound",
    Outcome.CLOSED_EARLY: "nothing, if a load balancer, a port scan or `meshtls check` probes the port; otherwise see"
    " the caller's log for why it gave up",
    Outcome.PROXY_HEADER_REFUSED: "compare the load balancer's PROXY protocol with the inbound's proxy_protocol keys",
    Outcome.LOCAL_IDENTITY: "see why there is no SVID: `meshtls admin ready` of the sidecar of {who}, then of its"
    " agent",
    Outcome.CONNECT_FAILED: "see whether {dialled} listens at the address in the detail",
    Outcome.APP_FAILED: "see the app's own log; protocol: tcp relays what is no HTTP unread",
    Outcome.IDLE_TIMEOUT: "raise limits.idle_timeout, or send keepalives, if it was still wanted",
    Outcome.CONNECTION_LIMIT: "raise limits.connections, or find who opens so many: `meshtls admin connections`",
    Outcome.REQUEST_REFUSED: "mend the client's HTTP as the detail says",
    Outcome.PATH_REFUSED: "send the path in its plain form; path_normalization says which forms are read",
    Outcome.TOKEN_REFUSED: "see the token's issuer, audience and times; `meshtls policy explain --token` judges one",
    Outcome.STREAM_REFUSED: "see limits.tunnel_streams, and the detail for what the CONNECT of {other} breaks",
    Outcome.RESET: "see why the app or {other} broke off: its own log, or a restart at that time",
    Outcome.DRAINED: "nothing: the sidecar was stopping; connect again",
    Outcome.INTERNAL_ERROR: "report it, with the traceback in the log of the sidecar of {who} (search for the"
    " connection's ID)",
}
_WRONG_SERVER = "correct outbound[].peer (or to) in {file}"
_DENIED_REQUEST = "if it is to be allowed, allow this request in a policy of {who}; `{explain}` shows what decides"

#: What happened; for an outcome that is not here, its own words are enough.
_SENTENCES: dict[Outcome, str] = {
    Outcome.POLICY_DENIED: "{who} refused {other}, whose identity is not allowed",
    Outcome.NO_CLIENT_CERTIFICATE: "{who} refused {other}, which presented no certificate",
    Outcome.PEER_CERT_INVALID: "{who} refused {other}, whose certificate is no valid X509-SVID",
    Outcome.PEER_CERT_NOT_CURRENT: "{who} refused {other}, whose certificate is expired or not yet valid",
    Outcome.PEER_UNTRUSTED: "{who} refused {other}, whose certificate leads to no root of its trust domain's bundle",
    Outcome.PEER_REVOKED: "{who} refused {other}, whose certificate, or a CA certificate above it, was revoked",
    Outcome.NO_BUNDLE: "{who} refused {other}, of whose trust domain it has no bundle",
    Outcome.PLAINTEXT_REFUSED: "{who} refused {other}, which spoke plaintext where mutual TLS is required",
    Outcome.HANDSHAKE_FAILED: "the TLS handshake of {who} with {other} failed",
    Outcome.HANDSHAKE_TIMEOUT: "the TLS handshake of {who} with {other} was not finished in time",
    Outcome.PROXY_HEADER_REFUSED: "{who} refused {other}, whose PROXY protocol header was missing, malformed or not"
    " from a trusted proxy",
    Outcome.LOCAL_IDENTITY: "{who} had no valid SVID",
    Outcome.CONNECT_FAILED: "{who} could not reach {target}",
    Outcome.APP_FAILED: "the app of {who} broke off, or did not answer with HTTP",
    Outcome.CONNECTION_LIMIT: "{who} had too many open connections",
    Outcome.DRAINED: "the sidecar of {who} was stopping and the drain deadline passed",
    Outcome.INTERNAL_ERROR: "the sidecar of {who} itself failed",
}
_WRONG_SERVER_REFUSED = "{who} refused {other}, which is another server than it expected"
_PLAINTEXT_DENIED = "{who} refused {other}, which proves no identity"
_REQUEST_DENIED = "the policies of {who} do not allow this HTTP request of {other}"


def sentence(line: Line) -> str:
    """What happened, of a record of the admin interface or a line of an access log."""
    outcome = Outcome.__members__.get(str(line.get("outcome")))
    if outcome is None:
        return str(line.get("reason"))
    template = _SENTENCES.get(outcome) or (outcome.of_request if _is_request(line) else outcome.value)
    if outcome is Outcome.POLICY_DENIED:
        if _is_request(line):
            template = _REQUEST_DENIED
        elif _is_outbound(line):
            template = _WRONG_SERVER_REFUSED
        elif line.get("security") == "plaintext":
            template = _PLAINTEXT_DENIED
    return template.format(**_ends(line))


def next_step(line: Line, file: str = "") -> str:
    """What to do about it; empty for an outcome of another version. ``file`` is the configuration of the sidecar with
    the record, where it is known.
    """
    outcome = Outcome.__members__.get(str(line.get("outcome")))
    if outcome is None:
        return ""
    template = NEXT_STEPS[outcome]
    if outcome is Outcome.POLICY_DENIED:
        if _is_outbound(line):
            template = _WRONG_SERVER
        elif _is_request(line):
            template = _DENIED_REQUEST
    named = file or f"the file of sidecar {line.get('sidecar')}"
    return template.format(**_ends(line), file=named, explain=shlex.join(_explain(line, file or "FILE")))


def _is_request(line: Line) -> bool:
    return "method" in line


def _is_outbound(line: Line) -> bool:
    return line.get("direction") == "outbound"


def _ends(line: Line) -> dict[str, str]:
    outbound, remote = _is_outbound(line), line.get("remote")
    own, peer = ("source_id", "destination_id") if outbound else ("destination_id", "source_id")
    at = f" at {remote}" if remote else ""
    if outbound:
        unproven = f"the server{at}"
    else:
        unproven = (
            f"a caller{at} {'in plaintext' if line.get('security') == 'plaintext' else 'without a proven identity'}"
        )
    who, other = str(line.get(own) or f"sidecar {line.get('sidecar')}"), str(line.get(peer) or unproven)
    target, dialled = (other, other) if outbound else ("its app", f"the app of {who}")
    return {"who": who, "other": other, "target": target, "dialled": dialled}


def _explain(line: Line, file: str) -> Iterator[str]:
    """The command that judges the same again."""
    yield from ("meshtls", "policy", "explain", "--from", str(line.get("source_id") or "plaintext"), "--config", file)
    if line.get("port"):
        yield from ("--port", str(line["port"]))
    if not _is_request(line):
        return
    if line.get("method") != "GET":
        yield from ("--method", str(line.get("method")))
    yield from ("--path", str(line.get("path")))
    if "host" in str(line.get("clause")):
        yield from ("--host", str(line.get("host")))
