"""One connection as its two sidecars recorded it, joined: who, when, how far, what decided, and what to do. Pure.

The requests on it are a part of it: a connection that ended well may have carried requests that were all denied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshtls.admin.next_steps import next_step, sentence
from meshtls.observe.events import Security, Verdict
from meshtls.scalars import count_of

__all__ = ["Story", "stories"]

Line = Mapping[str, Any]

#: Records of one ID that began further apart are of two connections: a client may choose an ID again.
_APART = 120.0
#: Clocks that differ by more are worth a remark.
_SKEW = 2.0
_ALLOWED, _DENIED, _FAILED = Verdict.ALLOWED.value, Verdict.DENIED.value, Verdict.FAILED.value
#: Of a caller or a server that has a sidecar nobody asked, or has none.
_NO_RECORD = "no record: if it has a sidecar, ask that too, or give its access log with --log"
#: What is asked for where the server's side of a connection is not known.
_NOT_ASKED = "nothing is known of its HTTP requests"
_ASK_SERVER = "ask the server's sidecar, too: only it reads HTTP requests"


@dataclass(frozen=True, slots=True)
class Story:
    """One connection, as both of its ends recorded it. ``near`` is the caller's record, ``far`` the server's; None
    where it is not known.
    """

    near: Line | None
    far: Line | None
    requests: tuple[Line, ...] = ()

    @property
    def decisive(self) -> Line:
        """The record of the side that knows why the connection ended: who refused, or who did not fail because the
        other did. Where no side has a record, that of a request.
        """
        sides = [one for one in (self.far, self.near) if one is not None]
        for one in sides:
            if one.get("verdict") == _DENIED:
                return one
        failed = [one for one in sides if one.get("verdict") == _FAILED]
        told = [one for one in failed if one.get("alert_received") is None]
        return next(iter(told or failed or sides or self.unserved or self.requests))

    @property
    def unserved(self) -> list[Line]:
        """The requests that were denied, and then those that failed."""
        return [one for verdict in (_DENIED, _FAILED) for one in self.requests if one.get("verdict") == verdict]

    @property
    def telling(self) -> Line:
        """The record that has the cause: ``decisive``, or where the connection did not fail, an unserved request."""
        one = self.decisive
        return self.unserved[0] if self.unserved and one.get("verdict") in (None, _ALLOWED) else one

    def record(self) -> dict[str, object]:
        """The story for programs: both records, and what follows from them."""
        return {"caller": self.near, "server": self.far, "requests": list(self.requests), "story": list(self.lines())}

    def lines(self) -> Iterator[str]:
        """The story for people: who it was, how it ended, and what to do."""
        one = self.decisive
        yield f"connection {one.get('connection_id')}"
        yield from self._ends(one)
        yield from self._clocks()
        for name, line in (("caller", self.near), ("server", self.far)):
            if line is None:
                yield f"  {name + ':':<8} {_NO_RECORD}"
            else:
                yield f"  {name + ':':<8} {_phase(line)}"
        yield from self._tls()
        if one.get("policy"):
            clause = f": {one['clause']}" if one.get("clause") else ""
            yield f"  policy:  {one['policy']}, rule {one.get('rule')}{clause}"
        yield from self._alerts()
        for request in self.requests:
            asked = f"{request.get('method')} {request.get('host')}{request.get('path')}"
            yield f"  request: {asked} {request.get('status')} {request.get('outcome')}: {request.get('detail')}"
        yield from self._cause()

    def _cause(self) -> Iterator[str]:
        one, telling = self.decisive, self.telling
        if "outcome" not in one:
            yield "  it lives"
            if telling is one:
                return
        said = f"{telling['outcome']}: {sentence(telling)}"
        if telling is not one:
            said = f"the connection {'was' if 'outcome' in one else 'is'} fine; {self._counted()}: {said}"
        unasked = telling is self.near and telling.get("verdict") == _ALLOWED and not self.requests
        unasked = unasked and self.far is None and telling.get("security") in (None, Security.MUTUAL_TLS.value)
        yield f"  cause:   {said}{f'; {_NOT_ASKED}' if unasked else ''}"
        if telling.get("detail"):
            yield f"           {telling['detail']}"
        if step := _ASK_SERVER if unasked else next_step(telling):
            yield f"  next:    {step}"

    def _counted(self) -> str:
        verdict, of = self.telling.get("verdict"), count_of(len(self.requests), "request")
        number = sum(one.get("verdict") == verdict for one in self.requests)
        return f"{number} of {of} {'was' if number == 1 else 'were'} {'denied' if verdict == _DENIED else 'not served'}"

    def _ends(self, one: Line) -> Iterator[str]:
        sides = [side for side in (self.near, self.far) if side is not None] or [one]
        for name, key in (("from", "source_id"), ("to", "destination_id")):
            said = list(dict.fromkeys(side[key] for side in sides if side.get(key)))
            word = "no proven identity" if not said else said[0]
            yield f"  {name + ':':<8} {word}{', which is only known to one side' if len(said) > 1 else ''}"

    def _clocks(self) -> Iterator[str]:
        began = [_moment(side) for side in (self.near, self.far) if side is not None]
        if len(began) == 1:
            yield f"  began:   {began[0].isoformat()}"
            return
        if not began:
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
                    watcher = "server" if who == "caller" else "caller"
                    seen = f"as the {watcher} saw it" if same else f"but the {watcher} saw {other['peer_serial']}"
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

    Its client chooses an ID, and whoever has seen a ClientHello can send it again. So of the records that name the same
    two IDs, as far as both know them, those are joined that fit best: their certificates, then their IDs, then their
    times. A connection that the caller was allowed on is not one of a caller without a proven identity.
    """
    connections = [one for one in lines if one.get("connection_id") == wanted and "method" not in one]
    requests = [one for one in lines if one.get("connection_id") == wanted and "method" in one]
    near = [one for one in connections if one.get("direction") == "outbound"]
    far = [one for one in connections if one.get("direction") != "outbound"]
    pairs = _paired(near, far)
    found = [Story(*pair, tuple(one for one in requests if _is_on(one, *pair))) for pair in pairs]
    if not found and requests:
        found = [Story(None, None, tuple(requests))]
    return sorted(found, key=lambda story: _moment(story.decisive), reverse=True)


def _paired(near: Sequence[Line], far: Sequence[Line]) -> list[tuple[Line | None, Line | None]]:
    """Each record once: those that fit best together, the others alone."""
    fits = [(_fit(one, side), i, j) for i, one in enumerate(near) for j, side in enumerate(far) if _match(one, side)]
    partner: dict[int, int] = {}
    for _, i, j in sorted(fits):
        if i not in partner and j not in partner.values():
            partner[i] = j
    alone = [(None, side) for j, side in enumerate(far) if j not in partner.values()]
    return [*((one, far[partner[i]] if i in partner else None) for i, one in enumerate(near)), *alone]


def _fit(near: Line, far: Line) -> tuple[bool, int, float]:
    """How badly the two records fit: their certificates, the IDs that only one of them knows, the time between them."""
    serials = (("local_serial", "peer_serial"), ("peer_serial", "local_serial"))
    agree = all(near.get(one) and near.get(one) == far.get(other) for one, other in serials)
    unknown = sum(near.get(key) is None or far.get(key) is None for key in ("source_id", "destination_id"))
    return not agree, unknown, abs((_moment(near) - _moment(far)).total_seconds())


def _is_on(request: Line, near: Line | None, far: Line | None) -> bool:
    """Whether the server's record has this request's caller and server; without one, the caller's record."""
    keys = ("source_id", "destination_id")
    if far is not None:
        return all(request.get(key) == far.get(key) for key in keys)
    return near is not None and all(near.get(key) in (None, request.get(key)) for key in keys)


def _match(near: Line, far: Line) -> bool:
    apart = abs((_moment(near) - _moment(far)).total_seconds())
    ids = all(near.get(key) in (None, far.get(key)) or far.get(key) is None for key in ("source_id", "destination_id"))
    is_stranger = near.get("verdict") == _ALLOWED and near.get("source_id") and not far.get("source_id")
    return ids and not is_stranger and apart <= _APART + _seconds(near)


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
