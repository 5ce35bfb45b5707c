"""One connection as its two sidecars recorded it, joined: who, when, how far, what decided, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshtls.observe.events import Outcome

__all__ = ["NEXT_STEPS", "Story", "stories"]

Line = Mapping[str, Any]

#: What to do about each outcome, for who reads why a connection ended.
NEXT_STEPS: dict[Outcome, str] = {
    Outcome.OK: "nothing: it was allowed, and both sides closed it",
    Outcome.POLICY_DENIED: "if it is to be allowed, add the caller to the inbound's allow or to a policy;"
    " `meshtls policy explain` shows what would let it in",
    Outcome.NO_CLIENT_CERTIFICATE: "send the call through a sidecar, or give the caller an X509-SVID",
    Outcome.PEER_CERT_INVALID: "have the peer's SVID issued by this mesh; docs/certificates.md has each rule",
    Outcome.PEER_CERT_NOT_CURRENT: "compare the clocks of both machines; then see whether the peer's SVID is renewed"
    " (`meshtls admin certs` there)",
    Outcome.PEER_UNTRUSTED: "compare `meshtls admin certs` of both sides: the peer's chain has to end in a root of this"
    " side's bundle",
    Outcome.PEER_REVOKED: "see `meshtls revoked`; `meshtls readmit` has an identity issued again",
    Outcome.NO_BUNDLE: "federate with the peer's trust domain: `meshtls federation create`, and federates_with in the"
    " entry",
    Outcome.PLAINTEXT_REFUSED: "send the call through a sidecar, or set mode PERMISSIVE while you migrate",
    Outcome.HANDSHAKE_FAILED: "see what the other side says: it may have refused, by the alert above",
    Outcome.HANDSHAKE_TIMEOUT: "see whether the peer speaks TLS and is reached; limits.handshake_timeout is the bound",
    Outcome.CLOSED_EARLY: "nothing, if a load balancer, a port scan or `meshtls check` probes the port; otherwise see"
    " the caller's log for why it gave up",
    Outcome.PROXY_HEADER_REFUSED: "compare the load balancer's PROXY protocol with the inbound's proxy_protocol keys",
    Outcome.LOCAL_IDENTITY: "see why there is no SVID: `meshtls admin ready` of this sidecar, then of its agent",
    Outcome.CONNECT_FAILED: "see whether the app, or the other sidecar, listens at the address in the detail",
    Outcome.APP_FAILED: "see the app's own log; protocol: tcp relays what is no HTTP unread",
    Outcome.IDLE_TIMEOUT: "raise limits.idle_timeout, or send keepalives, if it was still wanted",
    Outcome.CONNECTION_LIMIT: "raise limits.connections, or find who opens so many: `meshtls admin connections`",
    Outcome.REQUEST_REFUSED: "mend the client's HTTP as the detail says",
    Outcome.PATH_REFUSED: "send the path in its plain form; path_normalization says which forms are read",
    Outcome.TOKEN_REFUSED: "see the token's issuer, audience and times; `meshtls policy explain --token` judges one",
    Outcome.STREAM_REFUSED: "see limits.tunnel_streams, and the detail for what the peer's CONNECT breaks",
    Outcome.RESET: "see why the app or the peer broke off: its own log, or a restart at that time",
    Outcome.DRAINED: "nothing: the sidecar was stopping; connect again",
    Outcome.INTERNAL_ERROR: "report it, with the traceback in this sidecar's log (search for the connection's ID)",
}
#: Records of one ID that began further apart are of two connections: a client may choose an ID again.
_APART = 120.0
#: Clocks that differ by more are worth a remark.
_SKEW = 2.0


@dataclass(frozen=True, slots=True)
class Story:
    """``near`` is the caller's record, ``far`` the server's; None where it is not known."""

    near: Line | None
    far: Line | None
    requests: tuple[Line, ...] = ()

    @property
    def decisive(self) -> Line:
        """The record of the side that knows why: who refused, or who did not fail because the other did."""
        sides = [one for one in (self.far, self.near) if one is not None]
        for one in sides:
            if one.get("verdict") == "denied":
                return one
        for one in sides:
            if one.get("alert_received") is None and one.get("verdict") == "failed":
                return one
        return sides[0]

    def record(self) -> dict[str, object]:
        """For programs: both records, and what follows from them."""
        return {"caller": self.near, "server": self.far, "requests": list(self.requests), "story": list(self.lines())}

    def lines(self) -> Iterator[str]:
        """For people, from who it was to what to do."""
        one = self.decisive
        yield f"connection {one.get('connection_id')}"
        yield from self._ends(one)
        yield from self._clocks()
        for name, line in (("caller", self.near), ("server", self.far)):
            if line is None:
                yield f"  {name + ':':<8} no record: ask its sidecar too, or give its access log with --log"
            else:
                yield f"  {name + ':':<8} {_phase(line)}"
        yield from self._tls()
        yield from _ruled(one)
        yield from self._alerts()
        for request in self.requests:
            asked = f"{request.get('method')} {request.get('host')}{request.get('path')}"
            yield f"  request: {asked} {request.get('status')} {request.get('outcome')}: {request.get('detail')}"
        if "outcome" not in one:
            yield "  it lives"
            return
        yield f"  cause:   {one['outcome']}: {one.get('reason')}"
        if one.get("detail"):
            yield f"           {one['detail']}"
        outcome = Outcome.__members__.get(str(one["outcome"]))
        if outcome is not None:
            yield f"  next:    {NEXT_STEPS[outcome]}"

    def _ends(self, one: Line) -> Iterator[str]:
        sides = [side for side in (self.near, self.far) if side is not None]
        for name, key in (("from", "source_id"), ("to", "destination_id")):
            said = list(dict.fromkeys(side[key] for side in sides if side.get(key)))
            word = "no proven identity" if not said else said[0]
            yield f"  {name + ':':<8} {word}{', which is only known to one side' if len(said) > 1 else ''}"

    def _clocks(self) -> Iterator[str]:
        began = [_moment(side) for side in (self.near, self.far) if side is not None]
        if len(began) == 1:
            yield f"  began:   {began[0].isoformat()}"
            return
        later = (began[1] - began[0]).total_seconds()
        words = f"{abs(later):.3f} s {'later' if later >= 0 else 'EARLIER'} by the server's clock"
        warning = ": their clocks differ" if later < -_SKEW or later > _SKEW + _seconds(self.near) else ""
        yield f"  began:   {began[0].isoformat()} by the caller's clock, {words}{warning}"

    def _tls(self) -> Iterator[str]:
        one = self.near or self.far
        if one is None or not (one.get("tls_version") or one.get("cipher_suite")):
            return
        yield f"  TLS:     {one.get('tls_version') or 'not finished'}, {one.get('cipher_suite')}" + (
            ", resumed" if one.get("resumed") else ""
        )
        if self.near is not None and self.far is not None:
            for who, own, other in (("caller", self.near, self.far), ("server", self.far, self.near)):
                if own.get("local_serial") and other.get("peer_serial"):
                    same = own["local_serial"] == other["peer_serial"]
                    seen = "as the other side saw it" if same else f"but the other side saw {other['peer_serial']}"
                    yield f"           {who}'s certificate {own['local_serial']}, {seen}"

    def _alerts(self) -> Iterator[str]:
        for who, own, other in (("caller", self.near, self.far), ("server", self.far, self.near)):
            sent = own.get("alert_sent") if own is not None else None
            heard = other.get("alert_received") if other is not None else None
            if sent or heard:
                arrived = "" if other is None else f", {'which arrived' if heard else 'which did not arrive'}"
                yield f"  alert:   {sent or heard}, sent by the {who}{arrived}"


def stories(wanted: str, lines: Sequence[Line]) -> list[Story]:
    """The connections of this ID, as far as records of both sides are there, the newest first.

    Its client chooses an ID, so two records are joined only if they name the same two IDs, as far as both know them.
    """
    connections = [one for one in lines if one.get("connection_id") == wanted and "method" not in one]
    requests = tuple(one for one in lines if one.get("connection_id") == wanted and "method" in one)
    near = [one for one in connections if one.get("direction") == "outbound"]
    far = [one for one in connections if one.get("direction") == "inbound"]
    found = []
    for one in near:
        other = next((side for side in far if _match(one, side)), None)
        if other is not None:
            far.remove(other)
        found.append(Story(one, other, requests if other is not None else ()))
    found += [Story(None, side, requests) for side in far]
    return sorted(found, key=lambda story: _moment(story.decisive), reverse=True)


def _match(near: Line, far: Line) -> bool:
    apart = abs((_moment(near) - _moment(far)).total_seconds())
    ids = all(near.get(key) in (None, far.get(key)) or far.get(key) is None for key in ("source_id", "destination_id"))
    return ids and apart <= _APART + _seconds(near)


def _moment(line: Line) -> datetime:
    return datetime.fromisoformat(str(line.get("time") or line.get("started")).replace("Z", "+00:00"))


def _seconds(line: Line | None) -> float:
    return float(line.get("total_ms") or 0) / 1000 if line is not None else 0.0


def _phase(line: Line) -> str:
    if "outcome" not in line:
        return (
            f"{line.get('sidecar')}: {line.get('state')}, {line.get('bytes_in')} bytes in, {line.get('bytes_out')} out"
        )
    parts = [f"{line.get('sidecar')}: {line['outcome']} after {line.get('total_ms', 0):g} ms"]
    for name, key in (("detected", "detect_ms"), ("handshake", "handshake_ms"), ("connected", "connect_ms")):
        if line.get(key) is not None:
            parts.append(f"{name} {line[key]:g} ms")
    parts.append(f"{line.get('bytes_in', 0)} bytes in, {line.get('bytes_out', 0)} out")
    return ", ".join(parts)


def _ruled(line: Line) -> Iterator[str]:
    if line.get("policy"):
        clause = f": {line['clause']}" if line.get("clause") else ""
        yield f"  policy:  {line['policy']}, rule {line.get('rule')}{clause}"
