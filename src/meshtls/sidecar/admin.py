"""The pages of a sidecar's admin interface: each reads what the sidecar runs from, at the moment when it is asked."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from meshtls.admin.certs import context_record
from meshtls.admin.follow import ended_record, live_record, request_record, tap_page
from meshtls.admin.info import ProcessInfo
from meshtls.admin.levels import logging_page
from meshtls.admin.pages import NO_METRICS, Page, Pages, Query, Record, prometheus_page, ready_page
from meshtls.admin.plain import plain
from meshtls.clock import Clock
from meshtls.errors import LocalIdentityError, RequestError
from meshtls.logs import logger
from meshtls.observe.edges import Edges
from meshtls.observe.events import ConnectionResult, Outcome
from meshtls.observe.handshakes import Handshakes
from meshtls.observe.live import Ended, Event, Live, RequestEnded
from meshtls.observe.recent import Recent, is_of
from meshtls.policy.istio.rules import CompiledRule
from meshtls.printable import printable
from meshtls.scalars import shown
from meshtls.sidecar.states import SidecarState

if TYPE_CHECKING:
    from meshtls.sidecar.service import Sidecar
    from meshtls.sidecar.settings import OutboundConfig

__all__ = ["SidecarAdmin"]

log = logger("meshtls.sidecar")

_USUAL, _MOST = 1000, 100_000
#: Bytes of one answer of /tls_keys, and of the file from which it is.
_KEYS_AT_ONCE, _MOST_OFFSET = 1 << 18, 1 << 50


class SidecarAdmin:
    """What the pages remember (``ended`` is told of each end), and the pages themselves."""

    def __init__(self, sidecar: Sidecar, clock: Clock) -> None:
        self._sidecar = sidecar
        self._clock = clock
        self._info = ProcessInfo(sidecar.config.process, clock)
        self._recent = Recent()
        self._edges = Edges()
        self.handshakes = Handshakes()

    def ended(self, event: Event) -> None:
        """Remember a connection or a request that has ended. A tunnel itself only where the access log has it, too."""
        if isinstance(event, RequestEnded):
            self._recent.request(event.result)
            self._edges.request(event.result, self._clock.monotonic())
        elif isinstance(event, Ended) and not (event.carries and event.result.outcome.allowed):
            self._recent.connection(event.result)
            if event.result.outcome is not Outcome.CLOSED_EARLY:  # it talked to nobody
                self._edges.connection(event.result, self._clock.monotonic())

    def pages(self) -> Pages:
        metrics = self._sidecar.metrics
        return Pages(
            [
                Page("/certs", "Our SVIDs with their chains, and the bundles that we trust.", self._certs),
                Page("/config_dump", "The configuration in use, without what is secret.", self._config),
                Page("/stats", "Counts since the start.", self._stats),
                prometheus_page(metrics.scrape if metrics is not None else None),
                Page(
                    "/connections",
                    "The live connections, and those that ended most recently.",
                    self._connections,
                    words=("id", "direction", "state", "limit", "requests"),
                ),
                Page("/routes", "The listeners, and where each leads.", self._routes),
                Page("/policies", "The rules in force at each inbound listener.", self._policies),
                Page("/graph", "Who talked to whom.", self._graph),
                Page(
                    "/handshakes", "The messages of the newest TLS handshakes, one a second at most.", self._handshakes
                ),
                Page(
                    "/tls_keys",
                    "The TLS secrets in insecure_keylog_file from a byte on; on the Unix socket only.",
                    self._tls_keys,
                    words=("from",),
                ),
                tap_page(self._sidecar.runtime.reporter.observe),
                ready_page(self._sidecar.readiness, self._sidecar.config.process),
                Page(
                    "/drain",
                    "POST: accept no more connections. Live ones may go on for limits.drain_timeout.",
                    change=self._drain,
                ),
                logging_page(),
                Page("/server_info", "What runs here, and since when.", self._server_info),
            ]
        )

    def _certs(self, query: Query) -> Record:
        sidecar = self._sidecar
        try:
            context = sidecar.runtime.source.snapshot()
        except LocalIdentityError as error:
            return {"spiffe_id": str(sidecar.config.spiffe_id), "missing": str(error), "svids": [], "bundles": []}
        return {"spiffe_id": str(sidecar.config.spiffe_id), **context_record(context, self._clock.now())}

    def _config(self, query: Query) -> Record:
        config = self._sidecar.config
        # What the files of policies say is a page of its own.
        found = {name: getattr(config, name) for name in config.__struct_fields__ if name != "policies"}
        return {
            "generation": self._sidecar.view.generation,
            "not_taken": self._sidecar.not_taken,
            "config": plain(found),
        }

    def _stats(self, query: Query) -> Record:
        registry, totals = self._sidecar.registry, self._recent.totals
        return {
            "live_connections": len(registry),
            "unproven_connections": len(registry.unproven),
            "tunnel_streams": sum(one.is_stream for one in registry.connections),
            "metrics": NO_METRICS if self._sidecar.metrics is None else "/stats/prometheus has them",
            "ended": [
                {"direction": direction, "outcome": outcome.name, "connections": count}
                for (direction, outcome), count in sorted(totals.items(), key=lambda one: (one[0][0], one[0][1].name))
            ],
        }

    def _connections(self, query: Query) -> Record:
        wanted, direction = query.words.get("id", ""), query.words.get("direction", "")
        state = query.words.get("state", "")
        if state not in ("", "live", "ended"):
            raise RequestError(f"state: wanted live or ended, got {shown(state)}")
        most = query.number("limit", _USUAL, _MOST)
        requests = query.words.get("requests", "of id")
        if requests not in ("of id", "all"):
            raise RequestError(f"requests: wanted all, got {shown(requests)}")

        def asked(one: Live | ConnectionResult) -> bool:
            return is_of(one.connection_id, wanted) and direction in ("", one.direction.value)

        live = list(filter(asked, self._sidecar.registry.live())) if state != "ended" else []
        ended = filter(asked, self._recent.connections(wanted) if state != "live" else ())
        return {
            "sidecar": self._sidecar.config.name,
            "spiffe_id": str(self._sidecar.config.spiffe_id),
            "number": len(live),
            "live": [live_record(one) for one in live[:most]],
            "ended": [ended_record(one) for one in islice(ended, most)],
            "requests": [request_record(one) for one in self._recent.requests(wanted)[:most]]
            if wanted or requests == "all"
            else [],
        }

    def _routes(self, query: Query) -> Record:
        listeners = self._sidecar.listeners
        of_listener = Counter(id(one.gate) for one in self._sidecar.registry.connections)
        return {
            "inbound": [
                {
                    "listen": str(one.listener.address),
                    "state": one.listener.state.name.lower(),
                    "mode": one.handler.config.mode.value,
                    "protocol": one.handler.config.protocol.value,
                    "app": str(one.handler.config.app),
                    "tunnel": one.handler.config.tunnel,
                    "connections": of_listener[id(one.gate)],
                }
                for one in listeners.inbound
            ],
            "outbound": [
                {
                    "listen": str(out.listener.address),
                    "state": out.listener.state.name.lower(),
                    "to": str(out.handler.config.to),
                    "peer": str(out.handler.config.peer),
                    "security": "mutual_tls" if out.handler.config.proves_peer else _other_security(out.handler.config),
                    "tunnel": out.handler.config.tunnel,
                    "tunnels": out.handler.tunnels.state.value if out.handler.tunnels is not None else None,
                    "warm": len(out.handler.warm) if out.handler.warm is not None else None,
                    "connections": of_listener[id(out.gate)],
                }
                for out in listeners.outbound
            ],
        }

    def _policies(self, query: Query) -> Record:
        view = self._sidecar.view
        return {
            "generation": view.generation,
            "not_taken": self._sidecar.not_taken,
            "listeners": [
                {
                    "listen": str(route.listen),
                    "app": str(route.app),
                    "mode": route.mode.value,
                    "allow": [str(one) for one in policy.allow] if policy.rules is None else None,
                    "rules": [] if policy.compiled is None else [_rule(one) for one in policy.compiled.rules],
                }
                for route, policy in zip(view.routes.inbound, view.policies, strict=True)
            ],
        }

    def _graph(self, query: Query) -> Record:
        now = self._clock.monotonic()
        found = []
        for (source, destination, direction), edge in self._edges:
            connections, requests = edge.per_second(now)
            found.append(
                {
                    "source_id": source,
                    "destination_id": destination,
                    "reporter": "destination" if direction == "inbound" else "source",
                    "connections": edge.connections,
                    "allowed": edge.allowed,
                    "denied": edge.denied,
                    "failed": edge.failed,
                    "mutual_tls": edge.mutual_tls,
                    "tls": edge.tls,
                    "plaintext": edge.plaintext,
                    "requests": edge.requests,
                    "denied_requests": edge.denied_requests,
                    "failed_requests": edge.failed_requests,
                    "request_ms": round(edge.total_ms / edge.requests, 3) if edge.requests else None,
                    "bytes_in": edge.bytes_in,
                    "bytes_out": edge.bytes_out,
                    "connections_per_second": round(connections, 3),
                    "requests_per_second": round(requests, 3),
                }
            )
        return {"sidecar": self._sidecar.config.name, "edges": found}

    def _handshakes(self, query: Query) -> Record:
        return {
            "sidecar": self._sidecar.config.name,
            "handshakes": [
                {
                    "connection_id": one.connection_id,
                    "direction": one.direction.value,
                    "ended": one.ended.isoformat(),
                    "finished": one.finished,
                    "messages": [
                        {
                            "sent": message.sent,
                            "alert": message.alert,
                            "type": message.kind,
                            "length": message.length,
                            "hex": message.data.hex(),
                        }
                        for message in one.transcript.messages
                    ],
                }
                for one in self.handshakes
            ],
        }

    def _tls_keys(self, query: Query) -> Record:
        if not query.caller.local:
            raise RequestError("/tls_keys gives secrets away: ask on the Unix socket (admin.socket)")
        keylog = self._sidecar.config.insecure_keylog_file
        if keylog is None:
            raise RequestError(
                "/tls_keys: this sidecar keeps no TLS secrets: set insecure_keylog_file and run it with"
                " --allow-insecure-keylog while you debug"
            )
        begin = query.number("from", 0, _MOST_OFFSET)
        if not begin:
            log.warning("INSECURE: TLS secrets are given to %s (/tls_keys)", query.caller.name)
        try:
            with keylog.open("rb") as file:
                file.seek(begin)
                found = file.read(_KEYS_AT_ONCE)
        except OSError as error:
            raise RequestError(f"{keylog}: wanted a key log to read: {error.strerror}") from error
        whole = found[: found.rfind(b"\n") + 1]
        return {"lines": whole.decode("ascii", "replace"), "next": begin + len(whole)}

    def _drain(self, query: Query) -> Record:
        if self._sidecar.state is SidecarState.SERVING:
            log.warning("sidecar %s: draining, by %s", self._sidecar.config.name, query.caller.name)
            self._sidecar.drain_in_background()
        return {"state": "draining", "live_connections": len(self._sidecar.registry)}

    def _server_info(self, query: Query) -> Record:
        config = self._sidecar.config
        state = self._sidecar.state.name.lower()
        return self._info.record(state=state, workers=config.workers, log_level=config.log_level)


def _other_security(config: OutboundConfig) -> str:
    return "plaintext" if config.plaintext else "tls"


def _rule(one: CompiledRule) -> Record:
    return {
        "policy": one.policy,
        "rule": one.rule,
        "action": one.action.value,
        "provider": one.provider,
        "dry_run": one.dry_run,
        "file": printable(str(one.place.file)),
        "line": one.place.line,
    }
