"""The processes that the dashboard asks: real admin interfaces, whose pages are those of a large mesh made up.

``python -m bench.dashboard.crowd DIRECTORY WORKLOADS CONNECTIONS``: a socket for each workload in the directory. Each
has its part of the connections, which live; one of them ends and begins anew each second.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from meshtls.admin.follow import tap_page
from meshtls.admin.keys import AdminKeys
from meshtls.admin.pages import Page, Pages, Query, Record
from meshtls.admin.serving import serving_admin
from meshtls.observe.events import ConnectionResult, Direction, Outcome, Security
from meshtls.observe.live import Ended, Event, Observer
from meshtls.spiffeid import SpiffeId

__all__ = ["workload_id"]

_NEIGHBOURS = 4


def workload_id(number: int) -> str:
    return f"spiffe://bench.test/ns/team-{number % 25}/sa/service-{number}"


class Workload:
    """The pages of one, and who follows its events."""

    def __init__(self, number: int, workloads: int, connections: int) -> None:
        self.number = number
        self.observers: list[Observer] = []
        self._workloads, self._connections = workloads, connections
        self._ended = 0

    def peer(self, place: int) -> str:
        return workload_id((self.number + 1 + place % _NEIGHBOURS * 7) % self._workloads)

    def pages(self) -> Pages:
        now = datetime.now(UTC)
        leaf = {"subject": "O=bench", "issuer": "CN=root", "serial": f"{self.number:032x}", "sha256": "0a" * 32}
        svid = {"spiffe_id": workload_id(self.number), "hint": "", "serial": leaf["serial"]}
        svid |= {"not_before": now.isoformat(), "not_after": (now + timedelta(hours=1)).isoformat()}
        root = {
            "subject": "CN=root",
            "issuer": "CN=root",
            "serial": "01",
            "not_after": svid["not_after"],
            "sha256": "ff",
        }
        certs = {
            "svids": [{**svid, "chain": [{**leaf, "not_after": svid["not_after"]}]}],
            "bundles": [{"trust_domain": "bench.test", "x509_authorities": [root]}],
        }
        info = {"kind": "sidecar", "name": f"service-{self.number}", "spiffe_id": workload_id(self.number)}
        policies = {
            "generation": 1,
            "listeners": [{"listen": "127.0.0.1:1", "mode": "STRICT", "allow": [self.peer(0)]}],
        }
        fixed: dict[str, Record] = {
            "/server_info": {**info, "state": "serving", "version": "0"},
            "/ready": {"ready": True, "text": ""},
            "/certs": certs,
            "/policies": policies,
            "/logging": {"level": "INFO"},
            "/handshakes": {"handshakes": []},
        }
        return Pages(
            [
                *(Page(path, "Fixed.", _always(record)) for path, record in fixed.items()),
                Page("/graph", "Edges.", self._graph),
                Page("/connections", "Those that live.", self._live, words=("state", "limit", "requests")),
                tap_page(self._observe),
            ]
        )

    def end_one(self) -> None:
        """Tell whoever follows that one connection ended."""
        self._ended += 1
        result = ConnectionResult(
            sidecar=f"service-{self.number}",
            direction=Direction.INBOUND,
            outcome=Outcome.OK if self._ended % 10 else Outcome.POLICY_DENIED,
            words="closed by both sides",
            started=datetime.now(UTC),
            remote="127.0.0.1:1",
            source_id=SpiffeId.parse(self.peer(self._ended)),
            destination_id=SpiffeId.parse(workload_id(self.number)),
            tls_version="TLSv1.3",
            security=Security.MUTUAL_TLS,
            connection_id=f"{self.number:08x}{self._ended:08x}",
        )
        event: Event = Ended(0, result)
        for one in self.observers:
            one(event)

    def _observe(self, observer: Observer) -> Callable[[], None]:
        self.observers.append(observer)
        return lambda: self.observers.remove(observer)

    def _graph(self, query: Query) -> Record:
        return {"edges": [self._edge(place) for place in range(_NEIGHBOURS)]}

    def _edge(self, place: int) -> Record:
        counts = dict.fromkeys(
            ("allowed", "denied", "failed", "requests", "failed_requests", "bytes_in", "bytes_out"), 0
        )
        return {
            **counts,
            "source_id": self.peer(place),
            "destination_id": workload_id(self.number),
            "reporter": "destination",
            "connections": self._ended,
            "mutual_tls": self._ended,
            "request_ms": None,
            "connections_per_second": 1.0,
            "requests_per_second": 0.0,
        }

    def _live(self, query: Query) -> Record:
        if query.words.get("state") == "ended":
            return {"live": [], "ended": []}
        return {"live": [self._connection(place) for place in range(self._connections)], "ended": []}

    def _connection(self, place: int) -> dict[str, Any]:
        return {
            "connection_id": f"f{self.number:07x}{place:08x}",
            "number": place + 1,
            "sidecar": f"service-{self.number}",
            "direction": "inbound",
            "state": "relaying",
            "source_id": self.peer(place),
            "destination_id": workload_id(self.number),
            "remote": "127.0.0.1:1",
            "tunnel": False,
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": 1.0,
            "bytes_in": self._ended,
            "bytes_out": self._ended,
            "handshake_ms": 1.0,
            "connect_ms": 0.1,
        }


def _always(record: Record) -> Callable[[Query], Record]:
    return lambda query: record


async def _serve(directory: Path, workloads: int, connections: int) -> None:
    crowd = [Workload(number, workloads, connections // workloads) for number in range(workloads)]
    async with AsyncExitStack() as opened:
        for one in crowd:
            keys = AdminKeys(socket=directory / f"{one.number}.sock")
            await opened.enter_async_context(serving_admin(keys, one.pages()))
        print("serving", flush=True)
        while True:
            for one in crowd:
                one.end_one()
                await asyncio.sleep(1 / len(crowd))


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
