"""JWT bundles that are asked for when a rule first needs them, over a real Workload API."""

from __future__ import annotations

import asyncio

import pytest
from grpclib import Status

from meshtls.errors import LocalIdentityError
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.authenticate import Authenticated
from meshtls.request_auth.authenticator import RequestAuthenticator
from meshtls.request_auth.bundles import JwtBundles
from meshtls.spiffeid import SpiffeId
from meshtls.wire.http import HttpRequest, Refuse
from meshtls.workload.address import parse_address
from meshtls.workload.jwt_source import JwtSource
from tests.support.clock import ManualClock
from tests.support.waiting import until
from tests.support.workload_api import JWT_KEY_ID, WorkloadApi

OWN = SpiffeId.parse("spiffe://example.org/db")
RULES = [JwtRule(issuer="spiffe://example.org")]


def bundles_of(api: WorkloadApi, clock: ManualClock) -> JwtBundles:
    return JwtBundles(parse_address(api.address), clock=clock)


async def with_token(api: WorkloadApi, clock: ManualClock) -> HttpRequest:
    async with JwtSource(api.address, clock=clock, jitter=lambda: 0) as source:
        token = (await source.fetch(str(OWN))).token
    api.calls.clear()
    return HttpRequest("GET", "db", "/", (("authorization", f"Bearer {token}"),))


async def test_nothing_is_asked_before_a_rule_needs_it(api: WorkloadApi, clock: ManualClock) -> None:
    async with bundles_of(api, clock) as bundles:
        with pytest.raises(LocalIdentityError) as missing:
            bundles()
        assert str(missing.value) == "the Workload API was not asked for JWT bundles yet"
        await asyncio.sleep(0)
        assert (repr(bundles), api.calls["FetchJWTBundles"]) == ("<JwtBundles [not wanted]>", 0)
        async with RequestAuthenticator(RULES, OWN, bundles=bundles, clock=clock):
            await until(lambda: repr(bundles) == "<JwtBundles [open]>")
        assert [list(one.jwt_authorities) for one in bundles()] == [[JWT_KEY_ID]]
        async with RequestAuthenticator(RULES, OWN, bundles=bundles, clock=clock):
            pass
        assert api.calls["FetchJWTBundles"] == 1


async def test_a_request_with_a_token_waits_for_the_first_bundles(api: WorkloadApi, clock: ManualClock) -> None:
    request = await with_token(api, clock)
    async with (
        bundles_of(api, clock) as bundles,
        RequestAuthenticator(RULES, OWN, bundles=bundles, clock=clock) as authenticator,
    ):
        assert authenticator.authenticate_now(request) is None
        answer = await authenticator.authenticate(request)
        assert isinstance(answer, Authenticated)
        assert answer.auth is not None
        assert answer.auth.spiffe_id == str(api.context.svid.spiffe_id)
        assert authenticator.complaints == ()


async def test_bundles_that_are_refused_are_complained_of_and_asked_for_again(
    api: WorkloadApi, clock: ManualClock
) -> None:
    request = await with_token(api, clock)
    api.refuse(Status.PERMISSION_DENIED)
    async with (
        bundles_of(api, clock) as bundles,
        RequestAuthenticator(RULES, OWN, bundles=bundles, clock=clock) as authenticator,
    ):
        await until(lambda: bool(authenticator.complaints) or _advanced(clock))
        (complaint,) = authenticator.complaints
        assert complaint.startswith("there are no JWT bundles: ")
        assert complaint.endswith("; no JWT-SVID is accepted")
        refused = await authenticator.authenticate(request)
        assert isinstance(refused, Refuse)
        assert (refused.status, "there are no JWT bundles" in refused.reason) == (401, True)
        api.push(api.context)
        await until(lambda: repr(bundles) == "<JwtBundles [open]>" or _advanced(clock))
        assert authenticator.complaints == ()
        assert isinstance(await authenticator.authenticate(request), Authenticated)


def _advanced(clock: ManualClock) -> bool:
    clock.advance(0.1)
    return False
