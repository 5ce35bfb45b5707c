"""What mends a connection that failed, by how it ended; docs/troubleshooting.md has more of each. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from meshtls.capture.analysis.facts import Facts
from meshtls.observe.events import Outcome

__all__ = [
    "BY_MTU",
    "BY_PLAINTEXT",
    "BY_RENEGOTIATION",
    "BY_SIDECAR",
    "BY_VERSION",
    "WAITED",
    "advice_of",
    "filled",
    "of_unknown_ca",
]

_O = Outcome
_EXPLAIN = "`meshtls explain connection {connection} --sidecar FILE`"
#: ``{server}`` is its address, ``{connection}`` the ID by which sidecars log the connection, if it has one.
_ADVICE: Mapping[Outcome, str] = {
    _O.NO_CLIENT_CERTIFICATE: "call through a sidecar, which has an SVID; check it with `meshtls check --sidecar FILE`",
    _O.PEER_UNTRUSTED: (
        "give the side that refused the bundle that `meshtls bundle show` prints, or issue the other side's chain from"
        f" a root in it. {_EXPLAIN} has the refusing sidecar's own words"
    ),
    _O.NO_BUNDLE: "federate the trust domains: `meshtls bundle set`, and --federates-with of the entry",
    _O.PEER_CERT_NOT_CURRENT: "compare the clocks with `meshtls check`, and see why the peer's agent does not renew",
    _O.PEER_REVOKED: "`meshtls revoked` lists what is revoked; `meshtls readmit` lets an identity have SVIDs again",
    _O.PEER_CERT_INVALID: "`meshtls x509 inspect FILE` says which rule of an X509-SVID the certificate breaks",
    _O.POLICY_DENIED: "`meshtls policy explain` judges the same caller and names the clause",
    _O.PLAINTEXT_REFUSED: "send it through a sidecar; `meshtls x509 inspect {server}` says if the port speaks TLS",
    _O.HANDSHAKE_FAILED: f"{_EXPLAIN} has a sidecar's own words; `meshtls check --sidecar FILE` checks its setup",
    _O.HANDSHAKE_TIMEOUT: "see if the side that was silent speaks TLS there, and what it did at that time, in its log",
    _O.CLOSED_EARLY: (
        "nothing, if a load balancer, a port scan or `meshtls check` probes the port; otherwise see the client's log"
        " for why it gave up"
    ),
    _O.CONNECT_FAILED: "see that the destination listens there: `meshtls check --sidecar FILE`",
    _O.RESET: f"see the log of that side for why it broke off; {_EXPLAIN} has what a sidecar saw",
}
#: The server speaks no TLS at all.
BY_PLAINTEXT = (
    "this port speaks plaintext: call it without TLS, or call the port of its sidecar; `meshtls x509 inspect {server}`"
    " says what a port answers"
)
#: Large packets don't arrive, and small ones do.
BY_MTU = (
    "compare the MTU of both hosts and of all links between them, such as tunnels: `ping -M do -s SIZE HOST` finds the"
    " largest packet that arrives; routers have to be able to send ICMP's `fragmentation needed`"
)
#: A port of the loopback interface that closes without a byte.
BY_SIDECAR = (
    "if this is the outbound port of a sidecar, see its own call to the destination: its access log has it, and"
    " `meshtls check --sidecar FILE` tries it; `meshtls x509 inspect {server}` says if the port speaks TLS"
)
BY_VERSION = 'update the peer, or let older clients in with `tls_min: "1.2"`; `meshtls check` tries TLS 1.3 here'
BY_RENEGOTIATION = "configure that side not to renegotiate, or use TLS 1.3, which has no renegotiation"
#: The server accepted, and closed without a byte.
WAITED = "see the server's log; a sidecar closes so at limits.connections, and after limits.handshake_timeout"


#: Where the policy of a sidecar is that refuses the other side, by its own side.
_POLICIES: Mapping[str, str] = {
    "client": "`peer:` of the client's sidecar has to name the server's identity",
    "server": (
        "`allow:` of the server's sidecar has to name the client's; `meshtls policy explain` judges the same caller"
    ),
}


def of_unknown_ca(refuser: str, *, verified: bool) -> str:
    """Advice, to be filled in, where the "client" or the "server" sent this alert. ``verified``: the other side's chain
    verifies by the bundle given, so it is about the identity.
    """
    other = "server" if refuser == "client" else "client"
    asked = f"{_EXPLAIN} has the refusing sidecar's own words"
    if verified:
        here = f"if the {refuser} has the bundle given"
        return f"{here}: {_POLICIES[refuser]}; `meshtls revoked` lists what is revoked. {asked}"
    trust = f"the {refuser}'s bundle has to have the root of the {other}'s chain: `meshtls bundle show` prints it"
    return f"{trust}, and --bundle FILE verifies the chain here; if it does, {_POLICIES[refuser]}. {asked}"


def advice_of(outcome: Outcome | None) -> str:
    """The advice for this outcome, to be filled in; "" where there is none."""
    return _ADVICE.get(outcome, "") if outcome is not None else ""


def filled(advice: str, facts: Facts) -> str:
    """The advice with this connection's address and ID."""
    return advice.format(server=facts.server_address, connection=facts.connection_id or "ID")
