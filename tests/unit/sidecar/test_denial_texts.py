"""To find the nearest of many rules takes a thousand times as long as a denial: only a line that is written has it."""

from __future__ import annotations

import io
import json
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from meshtls.address import Address
from meshtls.clock import SystemClock
from meshtls.errors import NotAuthorizedError
from meshtls.observe.access_log import REFUSALS_PER_SECOND, AccessLog
from meshtls.observe.events import ConnectionResult, Direction, Outcome
from meshtls.policy.authorizer import authorize_any
from meshtls.policy.istio import explain
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import MeshSettings, Workload
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.http.judge import ClientCertHeader, RequestJudge
from meshtls.sidecar.reactor import running_reactor
from meshtls.sidecar.registry import Registry
from meshtls.sidecar.reporter import Reporter
from meshtls.sidecar.settings import InboundConfig, Protocol
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.http import HttpRequest, Refuse, Ruling
from tests.support.certs import ca, leaf
from tests.support.clock import ManualClock

A, B = SpiffeId.parse("spiffe://example.org/a"), SpiffeId.parse("spiffe://example.org/b")
PEER = VerifiedPeer(A, (leaf(ca(), str(A)).certificate,))
RULES = 20
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default, annotations: {{istio.io/dry-run: "{dry}"}}}}
spec: {{action: {action}, rules: [{rules}]}}
---
"""
GET = HttpRequest("GET", "app", "/x")


def of_rules(name: str, rule: str, *, action: str = "ALLOW", dry: bool = False) -> str:
    return POLICY.format(name=name, action=action, dry=str(dry).lower(), rules=", ".join([rule] * RULES))


def allowing(rule: str, *, dry: bool = False) -> str:
    return of_rules("many", rule, dry=dry)


NOT_A = "{from: [{source: {principals: [example.org/else]}}]}"
AUDITED = of_rules("seen", '{to: [{operation: {methods: ["GET"]}}]}', action="AUDIT")


def compiled(text: str) -> WorkloadPolicies:
    documents = parse_documents([("p.yaml", text)])
    return compile_policies(documents, MeshSettings(trust_domain="example.org"), Workload(namespace="default"))


class Compared:
    """How many rules were compared with a request, to find the nearest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._rules = 0
        compare = explain._compare_rule

        def counted(rule: Any, judged: Any) -> Any:
            self._rules += 1
            return compare(rule, judged)

        monkeypatch.setattr(explain, "_compare_rule", counted)

    def taken(self) -> int:
        rules, self._rules = self._rules, 0
        return rules


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    return Compared(monkeypatch)


class Log:
    """An access log whose rate of refusals is used up; ``next`` lets one more line through."""

    def __init__(self) -> None:
        self.stream, self.clock = io.StringIO(), ManualClock()
        self.log = AccessLog(self.stream, self.clock.monotonic)
        before = ConnectionResult(
            sidecar="b",
            direction=Direction.INBOUND,
            outcome=Outcome.HANDSHAKE_TIMEOUT,
            words="",
            started=self.clock.now(),
            remote="127.0.0.1:1",
        )
        for _ in range(int(REFUSALS_PER_SECOND * 10)):
            self.log(before)
        self.lines()

    def next(self) -> None:
        self.clock.advance(1 / REFUSALS_PER_SECOND)

    def lines(self) -> list[dict[str, Any]]:
        """Those since the last call."""
        self.log.flush()
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        self.stream.seek(0)
        self.stream.truncate()
        return lines


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def connection() -> Iterator[Connection]:
    with socket.socket() as sock:
        yield Connection("b", B, Direction.INBOUND, sock, "127.0.0.1:1", SystemClock())


class Judge:
    """A RequestJudge with the parts of a sidecar that it uses."""

    def __init__(self, text: str, connection: Connection, log: Log | None) -> None:
        self.gate = Gate(authorize_any(), rules=compiled(text))
        told: Any = None if log is None else lambda _, result: log.log.request(result)
        runtime: Any = SimpleNamespace(
            reporter=SimpleNamespace(wants_requests=log is not None, request=told),
            services=SimpleNamespace(now=SimpleNamespace(authenticator=None)),
            tracer=None,
        )
        config = InboundConfig(listen=Address("127.0.0.1", 0), app=Address("127.0.0.1", 0), protocol=Protocol.HTTP)
        request = Request(PEER, B, 8080)
        connection.reads_http = True
        connection.admit(self.gate, request)
        self._judge = RequestJudge(
            ClientCertHeader(config, request),
            self.gate,
            connection,
            runtime,
            http2=False,
            prove=lambda: None,
            fail=lambda error: None,
        )

    def status(self, http: HttpRequest = GET) -> int:
        """Of the answer; 200 is the app's."""
        rulings: list[Ruling] = []
        self._judge(http, rulings.append)
        (ruling,) = rulings
        if isinstance(ruling, Refuse):
            assert ruling.text == "access denied by policy\n"
            return ruling.status
        assert ruling.answered is not None
        ruling.answered(200)
        return 200


async def test_a_denied_request_is_explained_only_in_a_line_that_is_written(
    compared: Compared, log: Log, connection: Connection
) -> None:
    judge = Judge(allowing(NOT_A), connection, log)
    assert [judge.status() for _ in range(5)] == [403] * 5
    assert (compared.taken(), log.lines()) == (0, [])
    log.next()
    assert [judge.status() for _ in range(5)] == [403] * 5
    assert compared.taken() == RULES
    (line,) = log.lines()
    assert line["clause"] == "source.principals: wanted example.org/else, got example.org/a"
    assert line["detail"].startswith("denied: no ALLOW rule matches. The peer is example.org/a")


async def test_a_denied_request_that_is_reported_to_nobody_is_not_explained(
    compared: Compared, connection: Connection
) -> None:
    judge = Judge(allowing(NOT_A), connection, None)
    assert (judge.status(), compared.taken()) == (403, 0)


async def test_a_denied_connection_is_explained_only_in_a_line_that_is_written(compared: Compared, log: Log) -> None:
    reporter = Reporter(log.log, running_reactor().poller)
    gate = Gate(authorize_any(), rules=compiled(allowing(NOT_A)))

    def refused() -> NotAuthorizedError:
        with socket.socket() as sock:
            one = Connection("b", B, Direction.INBOUND, sock, "127.0.0.1:1", SystemClock())
            with pytest.raises(NotAuthorizedError) as error:
                one.admit(gate, Request(PEER, B, 8080))
            reporter.report(one, error.value)
        return error.value

    errors = [refused() for _ in range(3)]
    assert (compared.taken(), log.lines()) == (0, [])
    log.next()
    refused()
    assert compared.taken() == RULES
    (line,) = log.lines()
    assert (line["outcome"], line["detail"]) == ("POLICY_DENIED", str(errors[0]))
    assert line["clause"] == "source.principals: wanted example.org/else, got example.org/a"


async def test_connections_that_a_change_forbids_are_explained_only_in_lines_that_are_written(
    compared: Compared, log: Log, connection: Connection
) -> None:
    reporter, registry = Reporter(log.log, running_reactor().poller), Registry(10)
    gate = Gate(authorize_any(), rules=compiled(allowing("{}")))
    connection.admit(gate, Request(PEER, B, 8080))
    registry.enter(connection, lambda error: None)
    gate.rules = compiled(allowing(NOT_A))
    assert registry.recheck() == 1
    reporter.report(connection, connection.ended_by)
    assert (compared.taken(), log.lines()) == (0, [])


async def test_dry_run_denials_are_explained_at_a_rate_and_their_verdicts_are_always_there(
    compared: Compared, log: Log, connection: Connection
) -> None:
    judge = Judge(allowing(NOT_A, dry=True), connection, log)
    most = int(10 * REFUSALS_PER_SECOND)
    paths = [HttpRequest("GET", "app", f"/{number}") for number in range(most + 3)]
    assert {judge.status(http) for http in paths[:most]} == {200}
    assert compared.taken() == RULES * most
    assert all("The nearest is" in line["shadow"][0] for line in log.lines())
    assert {judge.status(http) for http in paths[most:]} == {200}
    assert compared.taken() == 0
    assert [line["shadow"] for line in log.lines()] == [["denied"]] * 3
    log.next()
    judge.status()
    assert compared.taken() == RULES


async def test_dry_run_and_audit_policies_are_not_asked_about_a_denied_request_without_a_line(
    compared: Compared, log: Log, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        found = getattr(WorkloadPolicies, name)

        def call(*given: object, **more: object) -> object:
            asked.append(name)
            return found(*given, **more)

        return call

    for name in ("shadow_of", "audit_of"):
        monkeypatch.setattr(WorkloadPolicies, name, counted(name))
    dry = of_rules("proposed", NOT_A, dry=True)
    judge = Judge(allowing(NOT_A) + dry + AUDITED, connection, log)
    assert (judge.status(), asked, log.lines()) == (403, [], [])
    log.next()
    assert judge.status() == 403
    (line,) = log.lines()
    assert sorted(asked) == ["audit_of", "shadow_of"]
    assert line["audit"] == [f"ns[default]-policy[seen]-rule[{number}]" for number in range(RULES)]
    assert line["shadow"][0].startswith("denied: no ALLOW rule matches")
