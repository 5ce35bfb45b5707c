"""The rulings that a connection's judge remembers are those that it would make anew."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from meshtls.address import Address
from meshtls.clock import SystemClock
from meshtls.ext_authz.answer import ExtAuthzAnswer
from meshtls.observe.events import Direction, Outcome, RequestResult
from meshtls.policy.authorizer import authorize_any
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import MeshSettings, Normalization, Workload
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.jwt.authenticate import Authenticated
from meshtls.policy.request import Request
from meshtls.sidecar.connection import Connection, EndedError
from meshtls.sidecar.gate import Gate
from meshtls.sidecar.http.judge import ClientCertHeader, RequestJudge
from meshtls.sidecar.services import Services
from meshtls.sidecar.settings import InboundConfig, Protocol
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire.http import Forward, HttpRequest, Refuse, Ruling, Tunnel
from tests.support.certs import ca, leaf
from tests.support.waiting import SECONDS

ROOT = ca()
A, B = SpiffeId.parse("spiffe://example.org/a"), SpiffeId.parse("spiffe://example.org/b")
ALLOW = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec:
  rules: [{to: [{operation: {methods: [GET]}}], when: [{key: "request.headers[x-team]", values: [red]}]}]
"""
DENY_ALL = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec: {}
"""
AUDIT = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: seen, namespace: default}
spec: {action: AUDIT, rules: [{when: [{key: "request.headers[x-seen]", values: ['yes']}]}]}
"""
RED = HttpRequest("GET", "app", "/./x", (("x-team", "red"),))
BLUE = HttpRequest("GET", "app", "/./x", (("x-team", "blue"),))


def compiled(text: str, normalization: Normalization = Normalization.BASE) -> WorkloadPolicies:
    documents = parse_documents([("p.yaml", text)])
    settings = MeshSettings(trust_domain="example.org", normalization=normalization)
    return compile_policies(documents, settings, Workload(namespace="default"))


class Judge:
    """``rule`` returns the ruling on a request. ``told`` are the requests that were reported."""

    def __init__(self, sock: socket.socket, *, reported: bool, num_trusted_proxies: int = 0) -> None:
        self.told: list[RequestResult] = []
        self.proven = 0
        self.gate = Gate(authorize_any(), rules=compiled(ALLOW))
        self.connection = Connection("b", B, Direction.INBOUND, sock, "127.0.0.1:1", SystemClock())
        #: The parts of a sidecar that a judge uses.
        in_use: Any = SimpleNamespace(authenticator=None)
        self.services: Any = Services(SystemClock())
        self.services.now = in_use
        reporter = SimpleNamespace(wants_requests=reported, request=lambda _, result: self.told.append(result))
        runtime: Any = SimpleNamespace(reporter=reporter, services=self.services, tracer=None)
        config = InboundConfig(
            listen=Address("127.0.0.1", 0),
            app=Address("127.0.0.1", 0),
            protocol=Protocol.HTTP,
            num_trusted_proxies=num_trusted_proxies,
        )
        request = Request(VerifiedPeer(A, (leaf(ROOT, str(A)).certificate,)), B, 8080)
        self.connection.reads_http = True
        self.connection.admit(self.gate, request)
        self.judge = RequestJudge(
            ClientCertHeader(config, request),
            self.gate,
            self.connection,
            runtime,
            http2=False,
            prove=self._prove,
            fail=self._fail,
            proxies=num_trusted_proxies,
        )

    def _prove(self) -> None:
        self.proven += 1

    def _fail(self, error: BaseException) -> None:
        raise error

    def rule(self, http: HttpRequest) -> Ruling:
        rulings: list[Ruling] = []
        self.judge(http, rulings.append)
        (ruling,) = rulings
        return ruling

    def forwarded(self, http: HttpRequest) -> HttpRequest | int:
        """What the app gets, or the status of a refusal."""
        ruling = self.rule(http)
        if isinstance(ruling, Refuse):
            return ruling.status
        assert ruling.answered is not None
        ruling.answered(200)
        return ruling.request


@pytest.fixture(params=[False, True], ids=["unreported", "reported"])
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    with socket.socket() as sock:
        yield Judge(sock, reported=request.param)


def test_a_request_that_comes_again_is_forwarded_and_reported_as_the_first_was(judge: Judge) -> None:
    first, *others = [judge.forwarded(RED) for _ in range(3)]
    assert isinstance(first, HttpRequest)
    assert first.path == "/x"
    assert [name for name, _ in first.headers] == ["x-team", "x-forwarded-client-cert"]
    assert others == [first, first]
    assert judge.proven == 1
    if judge.told:
        assert [(one.path, one.status, one.detail) for one in judge.told] == [
            ("/x", 200, "allowed by ns[default]-policy[web]-rule[0]")
        ] * 3


@pytest.mark.parametrize(
    ("unwritable", "outcome", "detail"),
    [
        ("the request can't be written", Outcome.INTERNAL_ERROR, "the request can't be written"),
        ("", Outcome.OK, "allowed by ns[default]-policy[web]-rule[0]"),
    ],
)
def test_a_request_that_cannot_be_written_is_reported_as_a_failure_and_not_as_an_answer(
    judge: Judge, unwritable: str, outcome: Outcome, detail: str
) -> None:
    for why in ("", unwritable, ""):
        ruling = judge.rule(RED)
        assert isinstance(ruling, Forward)
        assert ruling.answered is not None
        judge.judge.unwritable = partial(str, why)
        ruling.answered(500)
    if judge.told:
        alright = (Outcome.OK, 500, "allowed by ns[default]-policy[web]-rule[0]")
        found = [(one.context.outcome, one.status, str(one.context.detail)) for one in judge.told]
        assert found == [alright, (outcome, 500, detail), alright]


def test_a_header_that_a_policy_reads_decides_on_each_request(judge: Judge) -> None:
    red = judge.forwarded(RED)
    assert [judge.forwarded(http) for http in (RED, BLUE, RED, BLUE)] == [red, 403, red, 403]


def test_a_judge_that_is_closed_is_freed_without_the_garbage_collector(judge: Judge) -> None:
    judge.forwarded(RED)
    closed = weakref.ref(judge.judge)
    gc.disable()
    try:
        judge.judge.close()
        del judge.judge
        assert closed() is None
    finally:
        gc.enable()


def test_policies_that_change_decide_on_the_next_request(judge: Judge) -> None:
    red = judge.forwarded(RED)
    judge.gate.rules = compiled(DENY_ALL)
    assert judge.forwarded(RED) == 403
    judge.gate.rules = compiled(ALLOW)
    assert judge.forwarded(RED) == red
    judge.gate.replace(lambda peer, target: authorize_any()(peer, target))
    assert isinstance(judge.forwarded(BLUE), HttpRequest)


def test_a_token_is_read_on_each_request_as_soon_as_there_are_rules_for_it(judge: Judge) -> None:
    judge.forwarded(RED)
    refusals = iter([Refuse(401, "the token is expired\n"), Refuse(401, "the token is expired\n")])
    judge.services.now.authenticator = SimpleNamespace(authenticate_now=lambda http: next(refusals))
    assert [judge.forwarded(RED) for _ in range(2)] == [401, 401]


def test_a_request_that_switches_after_an_equal_one_that_did_not_is_judged_again_when_policies_change(
    judge: Judge,
) -> None:
    judge.forwarded(RED)
    again = judge.rule(RED)
    assert isinstance(again, Forward)
    assert again.answered is not None
    assert judge.connection.opaque is None
    again.answered(101)
    assert judge.connection.opaque is not None
    assert judge.connection.opaque().allowed
    judge.gate.rules = compiled(DENY_ALL)
    assert not judge.connection.opaque().allowed


def test_a_ruling_stands_until_policies_change(judge: Judge) -> None:
    rulings = [judge.rule(RED) for _ in range(3)]
    for ruling in rulings:
        assert isinstance(ruling, Forward)
        assert ruling.stands is not None
        assert ruling.stands()
    judge.gate.rules = compiled(ALLOW)
    rulings.append(judge.rule(RED))
    assert [one.stands() for one in rulings if isinstance(one, Forward) and one.stands] == [False, False, False, True]


def test_a_judge_that_is_closed_keeps_no_ruling(judge: Judge) -> None:
    judge.forwarded(RED)
    judge.judge.close()
    assert judge.judge._known == {}


def test_the_audit_rules_that_match_are_reported_of_each_request(judge: Judge) -> None:
    judge.gate.rules = compiled(ALLOW + AUDIT)
    seen = HttpRequest("GET", "app", "/x", (*RED.headers, ("x-seen", "yes")))
    for http in (RED, seen, seen, RED, HttpRequest("GET", "app", "/x", (("x-seen", "yes"),))):
        judge.forwarded(http)
    if judge.told:
        name = ("ns[default]-policy[seen]-rule[0]",)
        assert [(one.status, one.ruled.audit) for one in judge.told] == [
            (200, ()),
            (200, name),
            (200, name),
            (200, ()),
            (403, name),
        ]


@pytest.mark.parametrize("status", [101, 200])
def test_a_switch_that_policies_forbid_since_the_request_went_to_the_app_ends_the_connection(
    judge: Judge, status: int
) -> None:
    http = HttpRequest("CONNECT", "app", "/", RED.headers) if status == 200 else RED
    judge.gate.rules = compiled(ALLOW.replace("methods: [GET]", "methods: [GET, CONNECT]"))
    ruling = judge.rule(http)
    assert isinstance(ruling, Forward)
    assert ruling.answered is not None
    judge.gate.rules = compiled(DENY_ALL)
    with pytest.raises(EndedError) as ended:
        ruling.answered(status)
    assert ended.value.outcome is Outcome.POLICY_DENIED
    assert str(ended.value).startswith("denied: no ALLOW rule matches. ns[default]-policy[nobody] has no rules")


OLD_AND_NEW = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: default}
spec: {rules: [{to: [{operation: {paths: [/old, /new]}}]}]}
"""


def tunnel_of(judge: Judge, path: str) -> Tunnel:
    """A WebSocket that the app has accepted."""
    ruling = judge.rule(HttpRequest("GET", "app", path, (("upgrade", "websocket"),)))
    assert isinstance(ruling, Forward)
    assert ruling.answered is not None
    tunnel = ruling.answered(101)
    assert tunnel is not None
    return tunnel


@pytest.mark.parametrize("over", [True, False])
def test_a_tunnel_that_a_policy_forbids_ends_the_connection_unless_it_is_over(judge: Judge, over: bool) -> None:
    judge.gate.rules = compiled(OLD_AND_NEW)
    old, new = tunnel_of(judge, "/old"), tunnel_of(judge, "/new")
    old.is_open = lambda: not over
    judge.gate.rules = compiled(OLD_AND_NEW.replace("/old, ", ""))
    assert judge.connection.opaque is not None
    assert judge.connection.opaque().allowed is over
    new.is_open = old.is_open
    judge.gate.rules = compiled(DENY_ALL)
    assert judge.connection.opaque().allowed is over


def test_a_connection_may_have_any_number_of_tunnels_one_after_the_other(judge: Judge) -> None:
    judge.gate.rules = compiled(OLD_AND_NEW)
    for number in range(1100):
        tunnel_of(judge, f"/new?{number}").is_open = lambda: False
        assert len(judge.judge._opaque) == 1


def test_an_answer_that_switches_nothing_is_not_judged_again(judge: Judge) -> None:
    ruling = judge.rule(RED)
    assert isinstance(ruling, Forward)
    assert ruling.answered is not None
    judge.gate.rules = compiled(DENY_ALL)
    ruling.answered(200)
    assert judge.connection.opaque is None


def test_a_judge_remembers_few_rulings_however_many_requests_differ(judge: Judge) -> None:
    for number in range(100):
        http = HttpRequest("GET", "app", f"/{number}", RED.headers)
        assert isinstance(judge.forwarded(http), HttpRequest)
        assert len(judge.judge._known) <= 8
        assert len(judge.judge._contexts) <= 8
    assert http in judge.judge._known


BY_CLIENT = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: default}
spec: {rules: [{from: [{source: {remoteIpBlocks: [203.0.113.0/24]}}]}]}
"""


def test_an_upgraded_connection_is_judged_again_by_the_client_that_its_request_named() -> None:
    with socket.socket() as sock:
        judge = Judge(sock, reported=False, num_trusted_proxies=1)
        judge.gate.rules = compiled(BY_CLIENT)
        connect = HttpRequest("CONNECT", "app:1", "", (("x-forwarded-for", "203.0.113.7"),))
        forwarded = judge.forwarded(connect)
        assert isinstance(forwarded, HttpRequest)
        assert ("x-forwarded-for", "203.0.113.7, 127.0.0.1") in forwarded.headers
        assert judge.connection.opaque is not None
        for block, allowed in (("203.0.113.7", True), ("127.0.0.0/8", False), ("203.0.113.0/24", True)):
            judge.gate.rules = compiled(BY_CLIENT.replace("203.0.113.0/24", block))
            assert judge.connection.opaque().allowed is allowed


@pytest.mark.parametrize("reported", [False, True])
def test_a_tunnel_that_repeats_an_earlier_one_is_judged_by_the_same_client(reported: bool) -> None:
    with socket.socket() as sock:
        judge = Judge(sock, reported=reported, num_trusted_proxies=1)
        judge.gate.rules = compiled(BY_CLIENT)
        connect = HttpRequest("CONNECT", "app:1", "", (("x-forwarded-for", "203.0.113.7"),))
        assert all(isinstance(judge.forwarded(connect), HttpRequest) for _ in range(3))
        assert judge.connection.opaque is not None
        assert judge.connection.opaque().allowed


def test_a_head_that_comes_again_has_the_client_of_its_own_header() -> None:
    with socket.socket() as sock:
        judge = Judge(sock, reported=False, num_trusted_proxies=1)
        judge.gate.rules = compiled(BY_CLIENT)
        for _ in range(3):
            for address, allowed in (("203.0.113.7", True), ("198.51.100.1", False)):
                ruling = judge.rule(HttpRequest("GET", "app", "/", (("x-forwarded-for", address),)))
                assert isinstance(ruling, Forward) is allowed


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("x-forwarded-client-cert", False),
        ("x_forwarded_client_cert", False),
        ("x-forwarded_client-cert", False),
        ("x-forwarded-client-certs", True),
    ],
)
def test_every_spelling_of_the_client_certificate_s_header_is_replaced(judge: Judge, name: str, left: bool) -> None:
    came = HttpRequest("GET", "app", "/x", (("x-team", "red"), (name, "URI=spiffe://example.org/admin")))
    forwarded = judge.forwarded(came)
    assert isinstance(forwarded, HttpRequest)
    assert [(one, "admin" in value) for one, value in forwarded.headers] == [
        ("x-team", False),
        *([(name, True)] if left else []),
        ("x-forwarded-client-cert", False),
    ]


ASK = """
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec: {action: CUSTOM, provider: {name: opa}, rules: [{}]}
"""


class Waiting:
    """The keys that a token waits for, and a provider that allows or denies; ``asked`` is what it was asked about."""

    def __init__(self, judge: Judge, *, allows: bool = True) -> None:
        self.asked: list[Request] = []
        self.keys = asyncio.Event()
        self._allows = allows
        judge.services.now.ext_authz = self
        judge.services.now.authenticator = self

    def authenticate_now(self, http: HttpRequest) -> None:
        """The keys have to be fetched."""

    async def authenticate(self, http: HttpRequest) -> Authenticated:
        await self.keys.wait()
        return Authenticated(http)

    async def check(self, request: Request, provider: str) -> ExtAuthzAnswer:
        self.asked.append(request)
        return ExtAuthzAnswer(allowed=self._allows, reason="as told", status=200 if self._allows else 402)


async def late_ruling(judge: Judge, waiting: Waiting, http: HttpRequest, newer: WorkloadPolicies) -> Ruling:
    """The ruling on a request during which the policies change: its token waits for keys."""
    ruled: asyncio.Future[Ruling] = asyncio.get_running_loop().create_future()
    judge.judge(http, ruled.set_result)
    assert not ruled.done()
    judge.gate.rules = newer
    waiting.keys.set()
    async with asyncio.timeout(SECONDS):
        return await ruled


@pytest.mark.parametrize("allows", [True, False])
async def test_a_custom_policy_that_comes_while_a_token_waits_for_keys_is_asked(judge: Judge, allows: bool) -> None:
    waiting = Waiting(judge, allows=allows)
    ruling = await late_ruling(judge, waiting, RED, compiled(ALLOW + ASK))
    assert len(waiting.asked) == 1
    assert isinstance(ruling, Forward) is allows


@pytest.mark.parametrize("policies", [ALLOW, ALLOW + ASK], ids=["judged", "asked about"])
async def test_a_path_is_normalized_by_the_policies_that_came_meanwhile(judge: Judge, policies: str) -> None:
    waiting = Waiting(judge)
    judge.gate.rules = compiled(ALLOW, Normalization.NONE)
    newer = compiled(policies, Normalization.MERGE_SLASHES)
    ruling = await late_ruling(judge, waiting, HttpRequest("GET", "app", "/./a//b", RED.headers), newer)
    assert isinstance(ruling, Forward)
    assert ruling.request.path == "/a/b"
    assert [one.http.path for one in waiting.asked if one.http is not None] == ["/a/b"] * (policies != ALLOW)


@pytest.mark.parametrize(("address", "client"), [("203.0.113.7", "203.0.113.7"), ("unknown", "")])
async def test_a_provider_is_told_of_the_client_that_the_request_named(address: str, client: str) -> None:
    with socket.socket() as sock:
        judge = Judge(sock, reported=False, num_trusted_proxies=1)
        waiting = Waiting(judge)
        http = HttpRequest("GET", "app", "/", (*RED.headers, ("x-forwarded-for", address)))
        assert isinstance(await late_ruling(judge, waiting, http, compiled(ALLOW + ASK)), Forward)
        assert [one.remote_ip for one in waiting.asked] == [client]
