"""Istio's policies on each request of an ASGI app, by the peer that was verified: a sidecar's judgement without one.

    policies = meshtls.policy.load("policies/", watch=True)
    app = PolicyMiddleware(app, policies)          # Starlette: Middleware(PolicyMiddleware, policies=policies)

Serve it with ``meshtls.integrations.uvicorn``, and the authorizer ``authorize_any()``: each verified peer may connect,
and each of its requests is judged, in the steps of a sidecar: path, tokens, CUSTOM, DENY and ALLOW.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from meshtls.bundle import BundleSet
from meshtls.counted_log import LineRate
from meshtls.errors import ConfigError, MeshtlsError, RequestError
from meshtls.ext_authz.asking import Denied, ask, deny_if_unasked
from meshtls.integrations.asgi import PEER, App, Message, Receive, Scope, Send, refuse
from meshtls.integrations.asgi_caller import caller_by_sidecar, caller_by_tls
from meshtls.integrations.asgi_request import http_of, paths_read, roots_of, scope_for, without_header
from meshtls.integrations.asgi_services import Services
from meshtls.lazy_text import LazyText
from meshtls.logs import logger
from meshtls.policy.decision import DENIED_TEXT, Decision
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import MtlsMode
from meshtls.policy.library import Policies
from meshtls.policy.request import HttpRequest, Request
from meshtls.request_auth.settings import KeySetSettings
from meshtls.wire import xfcc
from meshtls.wire.http import Refuse
from meshtls.wire.http1.fields import MessageError

if TYPE_CHECKING:
    from meshtls.ext_authz.client import ExtAuthz
    from meshtls.ext_authz.settings import ExtAuthzProvider

__all__ = ["CALLER", "LINES_PER_SECOND", "PolicyMiddleware"]

#: The key in the scope's ``state`` of the caller's SpiffeId; None for a request that a sidecar got in plaintext.
CALLER = "spiffe_caller"

#: Lines of denials, by policies in force and by dry-run policies each, per second; ten times as many at once.
LINES_PER_SECOND = 100.0

log = logger("meshtls.policy")
_DENIAL = Refuse(403, DENIED_TEXT)
_LONGEST_PATH = 2048


class PolicyMiddleware:
    """Calls the app with the requests that the policies allow. Others get 403, 401 for a token, and 400 (or 417 for
    Expect) where a sidecar refuses the path, the host or a header.

    - ``trust_forwarded_client_cert``: behind a sidecar of the same workload, which calls the app in plaintext: trust
      its x-forwarded-client-cert, of requests from loopback, and refuse all others. **Whoever can connect to the app
      from loopback can then be anybody.** The sidecar has to say ``forward_client_cert: sanitize_set`` (its default) or
      ``append_forward``, and ``policies`` has to be loaded with ``spiffe_id``.
    - ``ext_authz``: the providers that CUSTOM policies name. Without its provider such a policy denies.
    - ``key_sets``, ``jwt_bundles``: as ``RequestAuthenticator`` has them, for RequestAuthentication.
    - ``underscore_names``: whether a header's name may have an underscore, as ``http`` says it in a sidecar's file.
      WSGI apps read ``X_User`` as ``X-User``, so that a policy and the app could disagree about it.

    The app finds the caller's ``SpiffeId`` in ``scope["state"]["spiffe_caller"]``, and its certificate in
    ``spiffe_peer`` if it connected by itself. Lifespan, bodies and the messages of a WebSocket pass unread; after a
    change of policies a WebSocket's own request is judged again at its next message.

    The log ``meshtls.policy`` tells of denials at level INFO, with the reason, of so many a second; how many lines were
    left out it tells as warnings.

    Raises ConfigError if ``trust_forwarded_client_cert`` has no ``spiffe_id``, and for a key set that ``key_sets``
    does not let be fetched; TypeError for what is no ``Policies``.
    """

    def __init__(
        self,
        app: App,
        policies: Policies,
        *,
        trust_forwarded_client_cert: bool = False,
        ext_authz: Iterable[ExtAuthzProvider] = (),
        key_sets: KeySetSettings = KeySetSettings(),  # noqa: B008  # a frozen value
        jwt_bundles: Callable[[], BundleSet] | None = None,
        underscore_names: bool = False,
    ) -> None:
        if not isinstance(policies, Policies):
            raise TypeError(f"PolicyMiddleware: wanted what meshtls.policy.load gives, got {type(policies).__name__}")
        if trust_forwarded_client_cert and policies.own_id is None:
            raise ConfigError(
                "trust_forwarded_client_cert: wanted the ID whose sidecar is trusted, got none; give it as"
                " policy.load(..., spiffe_id=...)"
            )
        self._app, self._policies = app, policies
        self._behind = policies.own_id if trust_forwarded_client_cert else None
        policies.fetch_by(key_sets)
        self._services = Services(ext_authz, key_sets, jwt_bundles)
        self._underscore_names = underscore_names
        self._lines = DenialLines()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await self._services.close()
            return
        if scope["type"] not in ("http", "websocket"):
            raise RequestError(f"ASGI scope: wanted http, websocket or lifespan, got {scope['type']!r}")
        try:
            judged = await self._judge(scope)
        except _RefusedError as error:
            await self._refuse(scope, send, error.refusal, error.reason)
        except Exception as error:  # unforeseen, whatever it is: no request gets through by it
            log.exception("the policies failed; denying")
            await self._refuse(scope, send, _DENIAL, f"the policies failed: {type(error).__name__}")
        else:
            send = _adding(judged.added, send)
            if scope["type"] == "websocket":
                socket = _JudgedSocket(judged, self._decide_again, receive, send, self._lines)
                await self._app(judged.scope, socket.receive, socket.send)
            else:
                await self._app(judged.scope, receive, send)

    def _decide_again(self, judged: Judged) -> tuple[Decision | None, Judged]:
        """None where the policies are still those by which it was judged."""
        rules = self._policies.of(judged.forms[0].destination)
        return (None, judged) if rules is judged.rules else (self._decide(judged), judged._replace(rules=rules))

    def _decide(self, judged: Judged) -> Decision:
        """Decide by the policies now in use. ``judged`` is as the tokens and the providers left it."""
        rules = self._policies.of(judged.forms[0].destination)
        for request in judged.forms:
            mode, by = rules.mode(request.port)
            if request.peer is None and mode is MtlsMode.STRICT:
                return Decision(False, f"plaintext proves no identity, and {by} is STRICT for port {request.port}")
            if rules.asks:
                denied = deny_if_unasked(rules.custom(request), judged.allowed_by, "request")
                if denied is not None:  # not ``or``: a denial is falsy
                    return denied
            decision = rules.evaluate(request, reads_http=True)
            if not decision.allowed:
                return decision
        return decision

    async def _judge(self, scope: Scope) -> Judged:
        """What the policies allow. Raises _RefusedError for what they don't."""
        came, caller = self._read(scope)
        rules = self._policies.of(caller.destination)
        http = came if self._behind else without_header(came, xfcc.HEADER)
        http, paths = _paths(http, roots_of(scope, self._app), rules)
        request = replace(caller, http=http)
        services = None
        if rules.jwt_rules or rules.asks:
            services = await self._services.for_rules(rules.jwt_rules, caller.destination)
            authenticator = services.authenticator
            found = authenticator.authenticate_now(http) or await authenticator.authenticate(http)
            if isinstance(found, Refuse):
                raise _RefusedError(found, f"the request's token is refused: {found.reason}")
            request = replace(caller, http=found.request, auth=found.auth)
        forms = _forms(request, paths)
        for_app, allowed_by, added = request, frozenset[tuple[str, str]](), tuple[tuple[str, str], ...]()
        if rules.asks and services is not None:
            for_app, allowed_by, added = await _ask_providers(rules, forms, services.ext_authz)
            # As Envoy's, the other policies judge what the providers made of it.
            forms = _forms(for_app, paths)
        judged = Judged(scope, rules, forms, allowed_by, added)
        decision = self._decide(judged)
        self._lines.dry_runs(rules, forms)
        if not decision.allowed:
            raise _RefusedError(_DENIAL, decision.words)
        state = {**(scope.get("state") or {}), CALLER: caller.source}
        return judged._replace(scope=scope_for({**scope, "state": state}, for_app.http or http))

    def _read(self, scope: Scope) -> tuple[HttpRequest, Request]:
        """The request, and who makes it."""
        try:
            http = http_of(scope, underscore_names=self._underscore_names)
        except MessageError as error:
            raise _RefusedError(Refuse(error.status, f"{error}\n"), str(error)) from error
        try:
            if self._behind is None or PEER in (scope.get("state") or {}):
                return http, caller_by_tls(scope, self._policies)
            return http, caller_by_sidecar(scope, http, self._policies, self._behind)
        except MeshtlsError as error:
            raise _RefusedError(_DENIAL, str(error)) from error

    async def _refuse(self, scope: Scope, send: Send, refusal: Refuse, reason: str | LazyText) -> None:
        self._lines.denied("refused: %s %s: %s", scope.get("method", "GET"), _shortened(scope["path"]), reason)
        await refuse(scope, send, refusal.status, refusal.text, refusal.headers)


class Judged(NamedTuple):
    """A request in the forms in which its path may be read, each of which has to be allowed, and the app's scope."""

    scope: Scope
    rules: WorkloadPolicies
    forms: tuple[Request, ...]
    #: CUSTOM policies whose providers were asked, and allow it.
    allowed_by: frozenset[tuple[str, str]]
    #: What the providers add to the app's answer.
    added: tuple[tuple[str, str], ...]


class _RefusedError(Exception):
    """``refusal`` is for the client, ``reason`` for the log."""

    def __init__(self, refusal: Refuse, reason: str | LazyText) -> None:
        super().__init__(reason)
        self.refusal, self.reason = refusal, reason


def _paths(http: HttpRequest, roots: Iterable[str], rules: WorkloadPolicies) -> tuple[HttpRequest, tuple[str, ...]]:
    """The request with its path normalized, and the others that the app may read in it."""
    try:
        path = rules.normalize(http.path)
        others = paths_read(path, roots, rules.normalize)
    except RequestError as error:
        raise _RefusedError(Refuse(400, f"{error}\n"), f"the path is refused: {error}") from error
    return (http if path == http.path else msgspec.structs.replace(http, path=path)), others


def _forms(request: Request, paths: tuple[str, ...]) -> tuple[Request, ...]:
    """The request, and as the app may read it: with each of these paths, and its own query, from which a token may
    have been taken.
    """
    if not paths or request.http is None:
        return (request,)
    _, mark, query = request.http.path.partition("?")
    http = request.http
    read = [msgspec.structs.replace(http, path=f"{path}{mark}{query}") for path in paths]
    return request, *(replace(request, http=one) for one in read)


def _at_path_of(form: Request, request: Request) -> Request:
    """``request`` with the path of ``form``."""
    if form.http is None or request.http is None or form.http.path == request.http.path:
        return request
    return replace(request, http=msgspec.structs.replace(request.http, path=form.http.path))


async def _ask_providers(
    rules: WorkloadPolicies, forms: tuple[Request, ...], ext_authz: ExtAuthz
) -> tuple[Request, frozenset[tuple[str, str]], tuple[tuple[str, str], ...]]:
    """The request for the app, as the providers change it, the CUSTOM policies that allow it, and what the providers
    add to the app's answer.
    """
    for_app, allowed_by, added = forms[0], frozenset[tuple[str, str]](), tuple[tuple[str, str], ...]()
    for form in forms:
        found = await ask(rules.custom(form), _at_path_of(form, for_app), ext_authz.check)
        if isinstance(found, Denied):
            raise _RefusedError(found.refusal, found.decision.words)
        for_app = _at_path_of(for_app, found.request)
        allowed_by |= found.allowed_by
        added += tuple(one for one in found.added if one not in added)
    return for_app, allowed_by, added


def _adding(added: tuple[tuple[str, str], ...], send: Send) -> Send:
    """A ``send`` that puts these headers after those of the app's answer."""
    if not added:
        return send
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in added]

    async def send_with_them(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept"):
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return send_with_them


class DenialLines:
    """Lines of the log that callers can cause: no reason is put into words that is not written."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._denials = LineRate(log, LINES_PER_SECOND, now)
        self._shadows = LineRate(log, LINES_PER_SECOND, now)

    def denied(self, message: str, *words: object) -> None:
        if log.isEnabledFor(logging.INFO) and self._denials.allows("denials", "a line of a denied request"):
            log.info(message, *words)

    def dry_runs(self, rules: WorkloadPolicies, forms: tuple[Request, ...]) -> None:
        """Of the forms of a request the first that would be denied, as in ``PolicyMiddleware._decide``."""
        if not (rules.dry_runs and log.isEnabledFor(logging.INFO)):
            return
        if self._shadows.allows("dry runs", "what dry-run policies say of a request"):
            said = [rules.shadow(form) for form in forms]
            first = next((one for one in said if not all(decision.allowed for decision in one)), said[0])
            for decision in first:
                log.info("dry run: %s: %s", "allowed" if decision.allowed else "denied", decision.reason)


def _shortened(path: str) -> str:
    return path if len(path) <= _LONGEST_PATH else f"{path[:_LONGEST_PATH]}..."


class _JudgedSocket:
    """A WebSocket whose own request is judged again, at its next message, when the policies have changed."""

    def __init__(
        self,
        judged: Judged,
        decide: Callable[[Judged], tuple[Decision | None, Judged]],
        receive: Receive,
        send: Send,
        lines: DenialLines,
    ) -> None:
        self._judged, self._decide, self._lines = judged, decide, lines
        self._receive, self._send = receive, send
        self._ended = False

    async def receive(self) -> Message:
        message = await self._receive()
        if await self._denied():
            return {"type": "websocket.disconnect", "code": 1008, "reason": ""}
        return message

    async def send(self, message: Message) -> None:
        """Raises OSError where the policies have ended it, as servers do for a client that has gone."""
        if await self._denied():
            raise OSError("the WebSocket was closed: access denied by policy")
        await self._send(message)

    async def _denied(self) -> bool:
        if not self._ended:
            try:
                decision, self._judged = self._decide(self._judged)
            except Exception as error:  # unforeseen: as for a request
                log.exception("the policies failed; denying")
                decision = Decision(False, f"the policies failed: {type(error).__name__}")
            if decision is not None and not decision.allowed:
                self._ended = True
                path = _shortened(self._judged.scope["path"])
                self._lines.denied("closed: WebSocket %s: %s", path, decision.words)
                await self._send({"type": "websocket.close", "code": 1008, "reason": ""})
        return self._ended
