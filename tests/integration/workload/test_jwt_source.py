"""The JWT source over a real Workload API: cached tokens, renewal at half-life, and local validation."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib import Status

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.errors import (
    IdentityWithdrawnError,
    InvalidSvidError,
    LocalIdentityError,
    NoBundleError,
    RequestError,
    ValidityError,
)
from meshtls.policy.istio.model import JwtRule
from meshtls.request_auth.authenticator import RequestAuthenticator
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.jwt import key_id_of_token
from meshtls.wire.http import HttpRequest, Refuse
from meshtls.workload.failures import WorkloadApiError
from meshtls.workload.jwt_source import JwtSource
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock
from tests.support.waiting import until
from tests.support.workload_api import WorkloadApi

LIFE, HALF = 300, 150
CLOSED = "this source of JWT-SVIDs was closed; enter it again with 'async with'"


def source_of(api: WorkloadApi, clock: ManualClock) -> JwtSource:
    return JwtSource(api.address, clock=clock, jitter=lambda: 0)


async def test_a_token_comes_from_the_cache_until_half_of_its_life(api: WorkloadApi, clock: ManualClock) -> None:
    async with source_of(api, clock) as source:
        first = await source.fetch("db", "mail")
        assert (first.spiffe_id, first.audience) == (api.context.svid.spiffe_id, ("db", "mail"))
        clock.advance(HALF - 1)
        assert await source.fetch("mail", "db") is first
        assert api.calls["FetchJWTSVID"] == 1
        clock.advance(1)
        second = await source.fetch("db", "mail")
        assert second.expiry > first.expiry
        assert repr(source) == f"<JwtSource {api.address} [1 tokens, bundles gen 1]>"


async def test_each_audience_set_and_each_identity_has_its_own_token(
    api: WorkloadApi, authority: Authority, clock: ManualClock
) -> None:
    svids = (svid_for(authority, "/web"), svid_for(authority, "/admin"))
    api.push(X509Context(1, svids, BundleSet([authority.bundle])))
    async with source_of(api, clock) as source:
        tokens = [
            await source.fetch("db"),
            await source.fetch("mail"),
            await source.fetch("db", spiffe_id=svids[1].spiffe_id),
        ]
    assert [(svid.spiffe_id.path, svid.audience) for svid in tokens] == [
        ("/web", ("db",)),
        ("/web", ("mail",)),
        ("/admin", ("db",)),
    ]


async def test_a_callers_token_authenticates_its_request_by_the_bundles(api: WorkloadApi, clock: ManualClock) -> None:
    own = SpiffeId.parse("spiffe://example.org/shop")
    rule = JwtRule(issuer="spiffe://example.org")
    source = source_of(api, clock)
    async with RequestAuthenticator([rule], own, bundles=lambda: source.bundles, clock=clock) as authenticator:
        async with source:
            for audience, status in ((str(own), None), ("spiffe://example.org/bank", 403)):
                token = (await source.fetch(audience)).token
                request = HttpRequest("GET", "shop.test", "/", (("authorization", f"Bearer {token}"),))
                answer = await authenticator.authenticate(request)
                if isinstance(answer, Refuse):
                    assert answer.status == status
                else:
                    assert status is None
                    assert answer.auth is not None
                    assert answer.auth.spiffe_id == str(api.context.svid.spiffe_id)
        closed = await authenticator.authenticate(request)
        assert isinstance(closed, Refuse)
        assert closed.reason == f"JWT of issuer 'spiffe://example.org': there are no JWT bundles: {CLOSED}"


async def test_concurrent_requests_for_one_token_make_one_call(api: WorkloadApi, clock: ManualClock) -> None:
    async with source_of(api, clock) as source:
        tokens = await asyncio.gather(*(source.fetch("db") for _ in range(20)))
    assert (len({svid.token for svid in tokens}), api.calls["FetchJWTSVID"]) == (1, 1)


async def test_a_cached_token_serves_until_it_expires_while_the_workload_api_is_away(
    api: WorkloadApi, clock: ManualClock
) -> None:
    async with source_of(api, clock) as source:
        first = await source.fetch("db")
        api.refuse(Status.UNAVAILABLE)
        clock.advance(HALF)
        for _ in range(5):
            assert await source.fetch("db") is first
        assert api.calls["FetchJWTSVID"] == 2
        clock.advance(LIFE - HALF)
        with pytest.raises(WorkloadApiError, match="UNAVAILABLE"):
            await source.fetch("db")
        api.push(api.context)
        assert (await source.fetch("db")).expiry > clock.now()


async def test_a_token_that_has_expired_on_arrival_is_refused(api: WorkloadApi, clock: ManualClock) -> None:
    late = ManualClock(clock.now())
    async with JwtSource(api.address, clock=late) as source:
        assert (await source.fetch("db")).audience == ("db",)
        late.advance(LIFE)
        with pytest.raises(LocalIdentityError) as raised:
            await source.fetch("db")
    assert str(raised.value) == ("JWT-SVID of spiffe://example.org/web: the Workload API sent one that has expired")


async def test_an_empty_audience_is_refused(api: WorkloadApi) -> None:
    async with JwtSource(api.address) as source:
        with pytest.raises(RequestError, match="^JWT-SVID: audience: wanted one or more, none of them empty$"):
            await source.fetch()


class TestWithdrawal:
    """SPIFFE Workload API, sections 5.2 and 6.2: a withdrawn identity or bundle is no longer used."""

    async def test_permission_denied_withdraws_tokens_and_bundles_and_a_new_entry_restores_them(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        token = api.mint(api.context.svid.spiffe_id, "db").token
        async with source_of(api, clock) as source:
            held = await source.fetch("db")
            api.refuse(Status.PERMISSION_DENIED)
            await until(lambda: not source.readiness().ready)
            with pytest.raises(WorkloadApiError, match="PERMISSION_DENIED"):
                await source.fetch("db")
            with pytest.raises(IdentityWithdrawnError, match="^JWT bundles withdrawn: .*PERMISSION_DENIED"):
                source.validate(token, "db")
            assert "JWT bundles withdrawn" in source.readiness().text
            assert repr(source) == f"<JwtSource {api.address} [0 tokens, bundles gen 1, withdrawn, 1 failed tries]>"
            healed = asyncio.ensure_future(source.bundles_changed())
            await clock.until_sleepers(2)
            api.push(api.context)
            clock.advance(1)
            await asyncio.wait_for(healed, 10)
            assert source.validate(token, "db").token == token
            assert await source.fetch("db") is not held
            assert source.readiness().ready

    async def test_unavailable_withdraws_nothing(self, api: WorkloadApi, clock: ManualClock) -> None:
        async with source_of(api, clock) as source:
            held = await source.fetch("db")
            api.refuse(Status.UNAVAILABLE)
            await clock.until_sleepers(2)
            assert await source.fetch("db") is held
            assert source.validate(held.token, "db") == held
            state = source.readiness()
            assert state.ready
            assert state.text.startswith("JWT bundles are not followed since ")

    async def test_only_a_deleted_identity_loses_its_tokens(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        web, admin = (svid_for(authority, path) for path in ("/web", "/admin"))
        bundles = BundleSet([authority.bundle])
        api.push(X509Context(1, (admin, web), bundles))
        async with source_of(api, clock) as source:
            await api.until_called("FetchX509SVID", 1)
            default = await source.fetch("db")
            kept = await source.fetch("db", spiffe_id=web.spiffe_id)
            assert default.spiffe_id == admin.spiffe_id
            api.push(X509Context(1, (web,), bundles))
            await until(lambda: "[1 tokens" in repr(source))
            assert (await source.fetch("db")).spiffe_id == web.spiffe_id
            assert await source.fetch("db", spiffe_id=web.spiffe_id) is kept
            with pytest.raises(WorkloadApiError, match="PERMISSION_DENIED"):
                await source.fetch("db", spiffe_id=admin.spiffe_id)

    @pytest.mark.parametrize("expired", [True, False])
    async def test_tokens_of_an_identity_whose_x509_svid_has_expired_are_used_if_the_workload_api_can_not_be_asked(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock, expired: bool
    ) -> None:
        admin, web = svid_for(authority, "/admin", ttl=timedelta(minutes=1)), svid_for(authority, "/web")
        bundles = BundleSet([authority.bundle])
        api.push(X509Context(1, (web, admin), bundles))
        async with source_of(api, clock) as source:
            await api.until_called("FetchX509SVID", 1)
            kept = await source.fetch("db", spiffe_id=admin.spiffe_id)
            other = await source.fetch("db", spiffe_id=web.spiffe_id)
            clock.advance((admin.not_after - clock.now()).total_seconds() + (1 if expired else -1))
            api.push(X509Context(1, (web,), bundles))
            if not expired:
                await until(lambda: "[1 tokens" in repr(source))
                return
            await until(lambda: "1 not renewed" in repr(source))
            api.refuse_calls(Status.UNAVAILABLE)
            asked = api.calls["FetchJWTSVID"]
            assert await source.fetch("db", spiffe_id=admin.spiffe_id) is kept
            assert api.calls["FetchJWTSVID"] > asked
            assert await source.fetch("db", spiffe_id=web.spiffe_id) is other
            api.refuse(Status.PERMISSION_DENIED)
            await until(lambda: "[0 tokens" in repr(source))

    @pytest.mark.parametrize("status", [Status.PERMISSION_DENIED, Status.INVALID_ARGUMENT])
    async def test_a_cached_token_is_not_served_after_its_renewal_is_denied(
        self, api: WorkloadApi, clock: ManualClock, status: Status
    ) -> None:
        async with source_of(api, clock) as source:
            await source.fetch("db")
            clock.advance(HALF)
            api.refuse_calls(status)  # the streams stay open, so this call is the only sign of the withdrawal
            for _ in range(2):
                with pytest.raises(WorkloadApiError, match=status.name):
                    await source.fetch("db")

    async def test_an_expired_token_from_the_workload_api_takes_no_valid_ones_place(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        async with source_of(api, clock) as source:
            held = await source.fetch("db")
            clock.advance(HALF)
            api.jwt_age = timedelta(hours=1)
            assert await source.fetch("db") is held


class TestValidation:
    async def test_a_peers_token_is_judged_here_and_now(self, api: WorkloadApi, clock: ManualClock) -> None:
        token = api.mint(api.context.svid.spiffe_id, "db").token
        async with source_of(api, clock) as source:
            await api.stop()
            assert source.validate(token, "db").spiffe_id == api.context.svid.spiffe_id
            with pytest.raises(InvalidSvidError, match="it is meant for 'db', not for 'mail'"):
                source.validate(token, "mail")
            clock.advance(LIFE)
            with pytest.raises(ValidityError, match="it expired at"):
                source.validate(token, "db")

    async def test_validation_uses_new_bundles(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock, tmp_path: Path
    ) -> None:
        partner = make_authority("partner.test", clock)
        token = api.mint(svid_for(partner, "/web").spiffe_id, "db").token
        async with source_of(api, clock) as source:
            with pytest.raises(NoBundleError, match=r"no bundle for trust domain partner\.test; known: example\.org"):
                source.validate(token, "db")
            api.push(X509Context(1, (svid_for(partner, "/web"),), BundleSet([partner.bundle])))
            await source.bundles_changed()
            assert source.validate(token, "db").spiffe_id.trust_domain == partner.trust_domain


class TestEntering:
    async def test_entering_gives_up_after_the_timeout_with_the_latest_reason(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        api.refuse(Status.PERMISSION_DENIED)
        entering = asyncio.ensure_future(source_of(api, clock).__aenter__())
        await clock.until_sleepers(2)
        clock.advance(30)
        with pytest.raises(LocalIdentityError, match=r"^no JWT bundles in 30 s: .*PERMISSION_DENIED"):
            await entering

    async def test_entering_gives_up_at_once_on_a_permanent_error(self, api: WorkloadApi) -> None:
        api.refuse(Status.UNIMPLEMENTED)
        with pytest.raises(WorkloadApiError, match="UNIMPLEMENTED"):
            await JwtSource(api.address, timeout=None).__aenter__()

    async def test_a_left_jwt_source_serves_and_validates_no_token_until_re_entered(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        source = source_of(api, clock)
        async with source:
            token = await source.fetch("db")
            assert source.validate(token.token, "db") == token
        for audience in ("db", "mail"):  # one of them is in the cache
            with pytest.raises(LocalIdentityError) as raised:
                await source.fetch(audience)
            assert str(raised.value) == CLOSED
        with pytest.raises(LocalIdentityError) as raised:
            source.validate(token.token, "db")
        assert str(raised.value) == CLOSED
        assert repr(source) == f"<JwtSource {api.address} [1 tokens, bundles gen 1, closed]>"
        async with source:
            assert await source.fetch("db") is token
            assert source.validate(token.token, "db") == token

    async def test_a_fetch_that_waits_when_the_source_closes_gets_no_token_from_the_cache(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        async with source_of(api, clock) as source:
            await source.fetch("db")
            clock.advance(HALF)
            api.silent = True
            waiting = asyncio.ensure_future(source.fetch("db"))
            await api.until_called("FetchJWTSVID", 2)
        with pytest.raises(LocalIdentityError) as raised:
            await asyncio.wait_for(waiting, 10)
        assert str(raised.value) == CLOSED


async def test_a_token_of_an_authority_that_has_left_the_bundle_is_not_served_from_the_cache(
    api: WorkloadApi, clock: ManualClock
) -> None:
    async with source_of(api, clock) as source:
        old = await source.fetch("db")
        api.push(api.context)  # bundles that have it still
        assert await source.fetch("db") is old
        api.jwt_key_id = "another"
        api.push(api.context)
        await until(lambda: "another" in source.bundles[api.context.svid.spiffe_id.trust_domain].jwt_authorities)
        assert key_id_of_token((await source.fetch("db")).token) == "another"
