"""Everything that a workload's policies say of one request, in the order in which a sidecar asks them. Pure.

The sidecar's mode first, then the path, the token, CUSTOM, DENY and ALLOW, and beside them what changes no verdict: dry
runs and AUDIT. A CUSTOM policy's provider can't be asked here: a request that one matches is reviewed as if it was
allowed, unless no such provider is configured, and the review says that it was not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

import msgspec

from meshtls.errors import RequestError
from meshtls.policy.decision import Decision, PolicyVerdict, provider_missing
from meshtls.policy.istio.evaluate import CustomMatch, WorkloadPolicies
from meshtls.policy.istio.model import MtlsMode
from meshtls.policy.jwt.review import TokenReview
from meshtls.policy.request import HttpRequest, Request
from meshtls.spiffeid import SpiffeId

__all__ = ["Mode", "Review", "mode_refusal", "review", "review_by_allow"]

#: A port's mode, and the policy that sets it: None for the default.
Mode = tuple[MtlsMode, str | None]


class Review(msgspec.Struct, frozen=True):
    """All that policies say of one request. ``shadow`` is what ``WorkloadPolicies.shadow`` says, ``audit`` the AUDIT
    rules that match.

    ``passes_plaintext``: whether the port takes a connection without TLS. ``request`` has its path normalized.
    ``unseen`` is the caller's ID if the port is DISABLE: no TLS ends there, so that it was judged as plaintext.
    ``not_judged`` is what a sidecar judges and a review can't, in words. ``by_allow``: there are no policies, but a
    list of peers, and plaintext that the mode takes is allowed.
    """

    decision: Decision
    request: Request
    mode: Mode
    custom: tuple[CustomMatch, ...] = ()
    shadow: tuple[Decision, ...] = ()
    audit: tuple[str, ...] = ()
    unseen: SpiffeId | None = None
    not_judged: tuple[str, ...] = ()
    by_allow: bool = False

    @property
    def passes_plaintext(self) -> bool:
        return self.mode[0] is not MtlsMode.STRICT


def review(
    policies: WorkloadPolicies,
    request: Request,
    *,
    reads_http: bool,
    mode: Mode | None = None,
    providers: Collection[str] | None = None,
    tokens: TokenReview | None = None,
) -> Review:
    """``reads_http`` is as of ``WorkloadPolicies.evaluate``. ``mode`` replaces that of the policies. ``providers`` are
    the names of those that are configured, None if that is not known. Without ``tokens`` the ``auth`` of the request is
    taken as it is.
    """
    mode = mode or policies.mode(request.port)
    if (refusal := mode_refusal(mode, request, reads_http=reads_http)) is not None:
        return Review(refusal, request, mode)
    request, unseen = _as_seen(request, mode)
    if request.http is not None and reads_http:
        try:
            path = policies.normalize(request.http.path)
        except RequestError as error:
            return Review(Decision(False, f"denied with 400: {error}"), request, mode)
        if path != request.http.path:
            http = request.http
            request = replace(request, http=HttpRequest(http.method, http.host, path, http.headers))
    not_judged: tuple[str, ...] = ()
    if tokens is not None and reads_http:
        told = tokens.judge(request)
        if isinstance(told, Decision):
            return Review(told, request, mode)
        request, not_judged = told
    custom = policies.custom(request, reads_http=reads_http)
    denial = _custom_denial(custom, providers)  # a denial is false
    return Review(
        policies.evaluate(request, reads_http=reads_http) if denial is None else denial,
        request,
        mode,
        custom,
        policies.shadow(request, reads_http=reads_http),
        policies.audit(request, reads_http=reads_http),
        unseen,
        (*not_judged, *_unasked(custom, providers)),
    )


def review_by_allow(judge: Callable[[Request], Decision], request: Request, *, reads_http: bool, mode: Mode) -> Review:
    """The review by a listener without policies: ``judge`` is what it says of a connection that its mode takes."""
    if (refusal := mode_refusal(mode, request, reads_http=reads_http)) is not None:
        return Review(refusal, request, mode, by_allow=True)
    request, unseen = _as_seen(request, mode)
    return Review(judge(request), request, mode, unseen=unseen, by_allow=True)


def _as_seen(request: Request, mode: Mode) -> tuple[Request, SpiffeId | None]:
    """The request as the port sees it, and the ID of its caller if the port does not see that."""
    if mode[0] is not MtlsMode.DISABLE or request.peer is None:
        return request, None
    return replace(request, peer=None, http=None), request.source


def _custom_denial(matches: Iterable[CustomMatch], providers: Collection[str] | None) -> Decision | None:
    """The denial of a CUSTOM policy whose provider can't be asked, by anybody."""
    for one in matches:
        if one.refusal is not None:
            return one.refusal
        if providers is not None and one.provider not in providers:
            return one.deny_as_provider(provider_missing(one.provider, providers))
    return None


def _unasked(matches: Iterable[CustomMatch], providers: Collection[str] | None) -> Iterator[str]:
    wanted = "it has to allow this, too" if providers is not None else "it has to be configured, and to allow this, too"
    for one in matches:
        if providers is None or one.provider in providers:
            yield f"the provider {one.provider}, which {one.policy} asks: {wanted}"


def mode_refusal(mode: Mode, request: Request, *, reads_http: bool) -> Decision | None:
    """The denial of a connection that the port's mode does not take. A DISABLE port ends no TLS: it passes to the app
    as it came, or is refused as malformed where HTTP is read.
    """
    setting, by = mode
    name = f"{by} sets" if by else "the port's mode is"
    if setting is MtlsMode.STRICT and request.peer is None:
        return Decision.of(
            PolicyVerdict.DENY,
            f"denied: {name} STRICT, and plaintext proves no identity. Call with mutual TLS, or set PERMISSIVE"
            " for this port until every caller does.",
            policy=by,
            clause="mtls.mode: wanted mutual TLS, got plaintext",
        )
    if setting is MtlsMode.DISABLE and request.peer is not None and reads_http:
        return Decision.of(
            PolicyVerdict.DENY,
            f"denied with 400: {name} DISABLE, so no TLS ends at the port, and TLS is no HTTP request. Call in"
            " plaintext, or set PERMISSIVE for this port.",
            policy=by,
            clause="mtls.mode: wanted plaintext, got mutual TLS",
        )
    return None
