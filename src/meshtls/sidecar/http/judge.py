"""Rules on each HTTP request of one connection, and reports it.

A request is judged with its path normalized, which the app then gets. What only a proxy may say is taken from what came
from outside, before anybody reads it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.errors import RequestError
from meshtls.ext_authz.asking import Asked, Denied, ask
from meshtls.lazy_text import LazyText
from meshtls.memo import Memo
from meshtls.observe.events import UNRULED, Outcome, RequestContext, RequestResult, RequestTrace, Ruled, Security
from meshtls.policy.decision import DENIED_TEXT, Decision, PolicyVerdict
from meshtls.policy.istio.evaluate import NarrowPolicies, WorkloadPolicies
from meshtls.policy.jwt.authenticate import Authenticated
from meshtls.policy.request import Request, RequestAuth
from meshtls.request_auth.authenticator import RequestAuthenticator
from meshtls.sidecar.connection import Connection, EndedError, host_of, ruled_by
from meshtls.sidecar.gate import Gate, evaluate_or_deny
from meshtls.sidecar.runtime import Runtime
from meshtls.sidecar.settings import CertDetail, ForwardClientCert, InboundConfig
from meshtls.svid.verify import VerifiedPeer
from meshtls.wire import xfcc, xff
from meshtls.wire.http import Answer, Cancel, Forward, HttpRequest, Refuse, Ruling, Tunnel, UnjudgedRequest
from meshtls.wire.http_rules import spellings
from meshtls.wire.trace_context import passed_on

__all__ = ["ClientCertHeader", "RequestJudge"]

_SWITCHING, _SUCCESS, _UNWRITABLE = 101, range(200, 300), 500
#: Requests of a connection whose rulings are remembered, and decisions.
_MOST_KNOWN = 8
_UNDECIDED = Decision.of(PolicyVerdict.NEEDS_HTTP)
_SPELLINGS = spellings(xfcc.HEADER)
_FORWARDED = (ForwardClientCert.FORWARD_ONLY, ForwardClientCert.APPEND_FORWARD)


class ClientCertHeader:
    """What becomes of x-forwarded-client-cert on one connection."""

    def __init__(self, config: InboundConfig, request: Request, element: str = "") -> None:
        """``element`` is what is said of a peer whose certificate is not known."""
        peer, mode = request.peer, config.forward_client_cert
        self._keeps = mode is ForwardClientCert.ALWAYS_FORWARD_ONLY or (peer is not None and mode in _FORWARDED)
        sets = mode in (ForwardClientCert.SANITIZE_SET, ForwardClientCert.APPEND_FORWARD)
        self._own = (element or _element(config, request, peer)) if peer is not None and sets else ""
        self._added = ((xfcc.HEADER, self._own),) if self._own else ()

    def applied(self, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """The headers for the app."""
        if not [name for name, _ in headers if name in _SPELLINGS]:
            return headers + self._added
        kept = [value for name, value in headers if name == xfcc.HEADER and value] if self._keeps else []
        headers = tuple([header for header in headers if header[0] not in _SPELLINGS])
        value = xfcc.appended(kept, self._own) if self._own else ",".join(kept)
        return (*headers, (xfcc.HEADER, value)) if value else headers


def _element(config: InboundConfig, request: Request, peer: VerifiedPeer) -> str:
    pem = [one.public_bytes(Encoding.PEM).decode() for one in peer.chain] if config.client_cert_details else [""]
    return xfcc.element(
        str(request.destination),
        peer.fingerprint.hex(),
        str(peer.spiffe_id),
        cert=pem[0] if CertDetail.CERT in config.client_cert_details else "",
        chain="".join(pem) if CertDetail.CHAIN in config.client_cert_details else "",
    )


class RequestJudge:
    """A Judge (``wire/http.py``) for the requests of one connection, or of one stream of a tunnel.

    ``prove`` is called with the first request that is allowed, and may raise EndedError, which ends the connection.
    ``fail`` ends it with an error of a ruling that came late. What comes late is stopped by what the call returns.
    """

    def __init__(
        self,
        client_cert: ClientCertHeader,
        gate: Gate,
        connection: Connection,
        runtime: Runtime,
        *,
        http2: bool,
        prove: Callable[[], None],
        fail: Callable[[BaseException], None],
        proxies: int = 0,
    ) -> None:
        """``connection`` is admitted. ``proxies`` is the listener's ``num_trusted_proxies``."""
        self._http2 = http2
        self._gate = gate
        self._connection = connection
        self._request = request = connection.request
        self._reporter = runtime.reporter
        self._services = runtime.services
        self._tracer = runtime.tracer
        self._prove = prove
        self._proven = False
        self._fail = fail
        self._client_cert = client_cert
        self._proxies = proxies
        self._rules: WorkloadPolicies | None = None
        #: Whether the rulings by these policies stand.
        self._stand = partial(_has_rules, gate, None)
        self._narrow: NarrowPolicies | None = None
        #: The policies for the clients that x-forwarded-for named.
        self._narrow_by_client: Memo[str, NarrowPolicies] = Memo(_MOST_KNOWN)
        #: Judged, and then no HTTP any more: CONNECT and upgrades.
        self._opaque: list[Opaque] = []
        #: What was allowed by the present policies, without a token or a provider: a request alone decided on it.
        self._known: Memo[HttpRequest, Known] = Memo(_MOST_KNOWN)
        #: What is reported of each decision, by its identity.
        self._contexts: Memo[int, tuple[Decision, RequestContext]] = Memo(_MOST_KNOWN)
        self._tasks: set[asyncio.Task[None]] = set()
        #: Why the app could not be dialled.
        self.unreachable: str | None = None
        #: The filter's ``app_fault``.
        self.app_fault: Callable[[], str] = str
        #: The filter's ``unwritable``.
        self.unwritable: Callable[[], str] = str
        self._security = Security.PLAINTEXT if request.peer is None else Security.MUTUAL_TLS

    def __call__(self, http: HttpRequest, answer: Answer) -> Cancel | None:
        rules = self._gate.rules
        if rules is not self._rules:
            self._take_rules(rules)
        known = self._known.get(http)
        if known is not None and self._services.now.authenticator is None:
            self._forward_known(http, known, answer)
            return None
        # What a policy or a provider sees is what the app gets, not what the client claims.
        headers = self._client_cert.applied(http.headers)
        client = None
        if self._proxies:
            client = xff.client_of(http.headers, self._proxies)
            headers = xff.appended(headers, host_of(self._connection.remote))
        seen = http if headers is http.headers else HttpRequest(http.method, http.host, http.path, headers)
        one = Judged(seen, self._connection.clock.now(), time.monotonic(), answer, client=client)
        one.trace = self._trace(http)
        if rules is not None:
            if not self._normalize(one, rules):
                return None
            authenticator = self._services.now.authenticator
            if authenticator is not None:
                found = authenticator.authenticate_now(one.http)
                if found is None or rules.asks:
                    return self._later(self._judge_later(one, authenticator, rules))
                if not self._take(one, found):
                    return None
            elif rules.asks:
                return self._later(self._judge_later(one, None, rules))
            else:
                one.repeats = http
        self._rule(one)
        return None

    def unjudged(self, refused: UnjudgedRequest) -> None:
        """Report a request that the filter refused by itself."""
        if self._reporter.wants_requests:
            context = self._new_context(Outcome.REQUEST_REFUSED, refused.reason)
            now = self._connection.clock.now()
            trace = self._tracer.of_request(self._connection, ()) if self._tracer is not None else None
            result = RequestResult(
                context, now, refused.method, refused.host, refused.path, refused.status, trace=trace
            )
            self._reporter.request(self._connection, result)

    def _forward_known(self, http: HttpRequest, known: Known, answer: Answer) -> None:
        if not self._proven:
            self._prove_once()
        if not self._reporter.wants_requests:
            answer(known.unreported)
            return
        forwarded, trace = known.unreported.request, None
        if self._tracer is not None:
            trace = self._trace(http)
            forwarded = _traced(forwarded, trace)
        answered = partial(self._answered_again, known, self._connection.clock.now(), time.monotonic(), trace)
        answer(Forward(forwarded, answered, (), self._stand))

    def close(self) -> None:
        """Rule on nothing more."""
        for task in self._tasks:
            task.cancel()
        # They lead back here: only the garbage collector would free them.
        self._known.clear()
        self._opaque.clear()

    # -- what has to be waited for: keys, and the providers of CUSTOM policies --

    def _later(self, work: Coroutine[None, None, None]) -> Cancel:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task.cancel

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(error)

    async def _judge_later(
        self, one: Judged, authenticator: RequestAuthenticator | None, rules: WorkloadPolicies
    ) -> None:
        if authenticator is not None and not self._take(one, await authenticator.authenticate(one.http)):
            return
        asked_by: WorkloadPolicies | None = None
        while True:
            before, now = rules, self._current_rules()
            if now is None:
                break
            if now is not before and not self._normalize(one, now):  # they have changed meanwhile
                return
            rules = now
            if rules is asked_by or not rules.asks:
                break
            asked_by = rules
            if not await self._ask(one):
                return
        self._rule(one)

    def _normalize(self, one: Judged, rules: WorkloadPolicies) -> bool:
        """Make the path what these policies judge, and the app gets. False if it is refused."""
        http = one.http if one.changed is None else one.changed
        try:
            path = rules.normalize(http.path)
        except RequestError as error:
            one.decision, one.denied = Decision(False, f"the path is refused: {error}"), Outcome.PATH_REFUSED
            self._refuse(one, Refuse(400, f"{error}\n"))
            return False
        if path != http.path:
            http = HttpRequest(http.method, http.host, path, http.headers)
            if one.changed is None:
                one.http = http
            else:
                one.changed = http
        return True

    def _take(self, one: Judged, found: Authenticated | Refuse) -> bool:
        """Go on with what a request's tokens say. False if it is refused for them."""
        if isinstance(found, Refuse):
            one.decision = Decision(False, f"the request's token is refused: {found.reason}")
            one.denied = Outcome.TOKEN_REFUSED
            self._refuse(one, found)
            return False
        one.http, one.auth = found.request, found.auth
        return True

    async def _ask(self, one: Judged) -> bool:
        """Ask the providers of the CUSTOM policies that match. False if one denies."""
        narrow, http, auth = self._policies(one.client), one.changed or one.http, one.auth
        if narrow is None:
            return True
        matches = evaluate_or_deny(lambda: narrow.custom(http, auth))
        if isinstance(matches, Decision):
            found: Asked | Denied = Denied(matches)
        else:
            remote_ip = self._request.remote_ip if one.client is None else one.client
            request = replace(self._request, http=http, auth=auth, remote_ip=remote_ip)
            found = await ask(matches, request, self._services.check)
        if isinstance(found, Denied):
            one.decision = found.decision
            self._refuse(one, found.refusal)
            return False
        one.changed, one.added = found.request.http, found.added
        return True

    # -- the ruling --

    def _rule(self, one: Judged) -> None:
        if one.changed is not None:  # as Envoy's, the other policies judge what the providers made of it
            one.http = one.changed
        one.decision = self._judged(one.http, one.auth, one.client)
        if self._reporter.wants_requests:
            narrow = self._policies(one.client)
            if self._rules is not None and narrow is not None:
                _note_others(one, self._rules, narrow)
        if not one.decision.allowed:
            self._refuse(one, Refuse(403, DENIED_TEXT))
            return
        if not self._proven:
            self._prove_once()
        forwarded = one.http
        if one.repeats is not None:
            unreported = Forward(forwarded, partial(self._note_tunnel, one), stands=self._stand)
            self._known.keep(one.repeats, Known(one, unreported, self._asks_for_tunnel(forwarded)))
        one.give(Forward(_traced(forwarded, one.trace), partial(self._answered, one), one.added, self._stand))

    def _prove_once(self) -> None:
        self._prove()
        self._proven = True

    def _trace(self, http: HttpRequest) -> RequestTrace | None:
        return None if self._tracer is None else self._tracer.of_request(self._connection, http.headers)

    def _answered(self, one: Judged, status: int) -> Tunnel | None:
        tunnel = self._note_tunnel(one, status)
        if self._reporter.wants_requests:
            self._report(one, status, one.started, one.began, one.trace)
        return tunnel

    def _answered_again(
        self, known: Known, started: datetime, began: float, trace: RequestTrace | None, status: int
    ) -> Tunnel | None:
        """As ``_answered``, for one more request like one that is known: when it came, and its trace, are its own."""
        tunnel = None
        if known.asks_for_tunnel or status == _SWITCHING:
            tunnel = self._note_tunnel(known.judged, status)
        if self._reporter.wants_requests:
            self._report(known.judged, status, started, began, trace)
        return tunnel

    def _note_tunnel(self, one: Judged, status: int) -> Tunnel | None:
        if status == _SWITCHING or (status in _SUCCESS and self._asks_for_tunnel(one.http)):
            return self._pass_unread(one.http, one.auth, one.client)
        return None

    def _asks_for_tunnel(self, http: HttpRequest) -> bool:
        """CONNECT, also the extended one, which stands here as a GET with Upgrade (RFC 8441, section 5)."""
        if self._http2 and http.method == "GET":
            return any(name == "upgrade" for name, _ in http.headers)
        return http.method == "CONNECT"

    def _pass_unread(self, http: HttpRequest, auth: RequestAuth | None, client: str | None) -> Tunnel:
        """What follows on this connection, or stream, is not judged any more: a change of policy has to end it."""
        one = Opaque(http, auth, client, Tunnel())
        self._opaque = [*self._open_tunnels(), one]
        self._connection.opaque = self._judge_opaque
        decision = self._judged(http, auth, client)  # the policies may have changed since it was sent to the app
        if not decision.allowed:
            raise EndedError(Outcome.POLICY_DENIED, decision.words)
        return one.tunnel

    def _judge_opaque(self) -> Decision:
        self._opaque = self._open_tunnels()
        decisions = [self._judged(one.http, one.auth, one.client) for one in self._opaque]
        if not decisions:
            return self._gate.judge(self._request, reads_http=True)
        return next((one for one in decisions if not one.allowed), decisions[0])

    def _open_tunnels(self) -> list[Opaque]:
        """As many as the connection has streams, at most."""
        return [one for one in self._opaque if one.tunnel.is_open()]

    def _current_rules(self) -> WorkloadPolicies | None:
        rules = self._gate.rules
        if rules is not self._rules:
            self._take_rules(rules)
        return rules

    def _take_rules(self, rules: WorkloadPolicies | None) -> None:
        """The policies have changed: forget what the earlier ones ruled."""
        self._rules = rules
        self._stand = partial(_has_rules, self._gate, rules)
        self._known.clear()
        self._narrow_by_client.clear()
        self._narrow = rules.narrow(self._request) if rules is not None else None

    def _policies(self, client: str | None) -> NarrowPolicies | None:
        """The present policies, for the client that x-forwarded-for names, if it is read."""
        rules = self._current_rules()
        if rules is None or client is None:
            return self._narrow
        known = self._narrow_by_client.get(client)
        if known is None:
            known = self._narrow_by_client.keep(client, rules.narrow(replace(self._request, remote_ip=client)))
        return known

    def _judged(self, http: HttpRequest, auth: RequestAuth | None, client: str | None) -> Decision:
        narrow = self._policies(client)
        if narrow is None:
            return self._gate.judge(self._request)
        return evaluate_or_deny(lambda: narrow.evaluate(http, auth))

    def _refuse(self, one: Judged, refusal: Refuse) -> None:
        if self._reporter.wants_requests:
            self._report(one, refusal.status, one.started, one.began, one.trace)
        one.give(refusal)

    def _report(self, one: Judged, status: int, started: datetime, began: float, trace: RequestTrace | None) -> None:
        """``one`` may be an earlier request that this one, of this time and with this trace, repeats."""
        http = one.http
        ms = (time.monotonic() - began) * 1000
        fault = self.app_fault() if one.decision.allowed else ""
        unwritable = self.unwritable() if status == _UNWRITABLE else ""
        context = one.context
        if context is None or fault or unwritable or self.unreachable is not None:
            context = self._context_of(one, fault, unwritable)
        result = RequestResult(context, started, http.method, http.host, http.path, status, ms, trace)
        self._reporter.request(self._connection, result)

    def _context_of(self, one: Judged, fault: str, unwritable: str) -> RequestContext:
        """``fault``: what is wrong with the app. ``unwritable``: why the request could not be written for it."""
        decision = one.decision
        alone = not one.shadow and not one.audit and self.unreachable is None and not fault and not unwritable
        if alone:
            known = self._contexts.get(id(decision))
            if known is not None and known[0] is decision:
                one.context = known[1]
                return known[1]
        outcome = Outcome.OK if decision.allowed else one.denied
        detail: str | LazyText = decision.reason if decision.allowed else decision.words
        if unwritable:
            outcome, detail = Outcome.INTERNAL_ERROR, unwritable
        elif decision.allowed and self.unreachable is not None:
            outcome, detail = Outcome.CONNECT_FAILED, self.unreachable
        elif fault:
            outcome, detail = Outcome.APP_FAILED, fault
        context = self._new_context(outcome, detail, ruled_by(decision, one.shadow, one.audit))
        if alone and decision.allowed:
            self._contexts.keep(id(decision), (decision, context))
            one.context = context
        return context

    def _new_context(self, outcome: Outcome, detail: str | LazyText, ruled: Ruled = UNRULED) -> RequestContext:
        connection, request = self._connection, self._request
        return RequestContext(
            sidecar=connection.sidecar,
            outcome=outcome,
            detail=detail,
            remote=connection.remote,
            source_id=request.source,
            destination_id=request.destination,
            port=request.port,
            security=self._security,
            tunnel=connection.is_stream,
            ruled=ruled,
            connection_id=connection.connection_id,
        )


def _has_rules(gate: Gate, rules: WorkloadPolicies | None) -> bool:
    return gate.rules is rules


def _traced(http: HttpRequest, trace: RequestTrace | None) -> HttpRequest:
    """The request for the app, whose spans are children of the request's, where that has one."""
    if trace is None:
        return http
    return HttpRequest(http.method, http.host, http.path, passed_on(http.headers, trace.span))


def _note_others(one: Judged, rules: WorkloadPolicies, narrow: NarrowPolicies) -> None:
    """What the log says beside the decision. An allowed request has a line in any case, a denied one may have none."""
    http, auth = one.http, one.auth
    if rules.dry_runs:
        one.shadow = narrow.shadow(http, auth) if one.decision.allowed else partial(narrow.shadow, http, auth)
    if rules.audits:
        one.audit = narrow.audit(http, auth) if one.decision.allowed else partial(narrow.audit, http, auth)


class Judged(msgspec.Struct, eq=False):
    """One request: what is known of it, and what is reported. ``changed`` is what the providers made of it, ``added``
    what they add to the app's answer. ``repeats``: nothing but this head, as it came, and the policies decide on it.
    ``client``: the address that x-forwarded-for names, where it is read. ``context``: what was reported of an earlier
    request that it repeats, as long as nothing is wrong with the app.
    """

    http: HttpRequest
    started: datetime
    began: float
    answer: Answer | None = None
    auth: RequestAuth | None = None
    changed: HttpRequest | None = None
    added: tuple[tuple[str, str], ...] = ()
    repeats: HttpRequest | None = None
    decision: Decision = _UNDECIDED
    #: If it is denied.
    denied: Outcome = Outcome.POLICY_DENIED
    #: What dry-run policies would say, and the AUDIT rules that match: of a denied request found only where it is read.
    shadow: tuple[Decision, ...] | Callable[[], tuple[Decision, ...]] = ()
    audit: tuple[str, ...] | Callable[[], tuple[str, ...]] = ()
    client: str | None = None
    trace: RequestTrace | None = None
    context: RequestContext | None = None

    def give(self, ruling: Ruling) -> None:
        """Answer once. The answer is let go before: it leads to the exchange, which keeps the ruling, which leads
        here.
        """
        answer, self.answer = self.answer, None
        if answer is not None:
            answer(ruling)


class Opaque(NamedTuple):
    """A tunnel, with the request that began it, its token, and its client as in ``Judged``."""

    http: HttpRequest
    auth: RequestAuth | None
    client: str | None
    tunnel: Tunnel


class Known(NamedTuple):
    """A request that was allowed, and the ruling on its like where nobody is told of requests."""

    judged: Judged
    unreported: Forward
    asks_for_tunnel: bool
