"""The rotating source, over a real authority, on the test's own clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import ConfigError, LocalIdentityError, RequestError
from meshtls.identity.issuer import IssuedWithBundles, Issuer, LocalIssuer
from meshtls.identity.rotating import RotatingSource
from meshtls.observe.readiness import Readiness
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.context import X509Context
from tests.support.authority import make_authority
from tests.support.clock import ManualClock

WEB = SpiffeId.parse("spiffe://example.org/web")


class SwitchedIssuer:
    """Delegates to a real issuer, unless a test sets an error to raise or other bundles to return."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.error: Exception | None = None
        self.bundles: BundleSet | None = None
        self.asked = 0

    async def issue(self, csr_der: bytes) -> IssuedWithBundles:
        self.asked += 1
        if self.error is not None:
            raise self.error
        issued = await self._issuer.issue(csr_der)
        return issued if self.bundles is None else replace(issued, bundles=self.bundles)


class Mesh:
    """A clock, an authority and an issuer that can fail."""

    def __init__(self, svid_ttl: timedelta = timedelta(hours=1)) -> None:
        self.clock = ManualClock()
        self.authority = make_authority(clock=self.clock, svid_ttl=svid_ttl)
        self.issuer = SwitchedIssuer(LocalIssuer(self.authority, WEB))

    def source(self) -> RotatingSource:
        return RotatingSource(self.issuer, self.clock, jitter=lambda: 0.0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RotatingSource]:
        async with self.source() as source:
            await self.clock.until_sleepers()
            yield source

    async def pass_time(self, seconds: float) -> None:
        """Advance the clock, and wait until the source has done what was due and sleeps again."""
        self.clock.advance(seconds)
        await self.clock.until_sleepers()


async def test_entering_returns_with_an_svid_and_its_bundle() -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        context = source.snapshot()
        assert (context.generation, context.svid.spiffe_id) == (1, WEB)
        assert context.bundles == BundleSet([mesh.authority.bundle])
        assert source.last_error is None


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (LocalIdentityError("no CA answers"), "no CA answers"),
        (RequestError("the CSR is bad"), "certificate request failed: the CSR is bad"),
        (ConfigError("the CA is broken"), "certificate request failed: the CA is broken"),
        (ConnectionResetError("reset"), "certificate request failed: reset"),
    ],
)
async def test_entering_fails_without_an_svid(error: Exception, message: str) -> None:
    mesh = Mesh()
    mesh.issuer.error = error
    with pytest.raises(LocalIdentityError) as raised:
        await mesh.source().__aenter__()
    assert str(raised.value) == message
    mesh.issuer.error = None
    async with mesh.source() as source:
        assert source.snapshot().generation == 1


async def test_a_source_cannot_be_read_before_it_is_entered() -> None:
    source = Mesh().source()
    assert repr(source) == "<RotatingSource not entered>"
    with pytest.raises(LocalIdentityError) as raised:
        source.snapshot()
    assert str(raised.value) == "this source has no SVID yet: enter it with 'async with' first"


async def test_an_svid_rotates_to_a_new_key_at_half_life_and_not_before() -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        first = source.snapshot()
        await mesh.pass_time(1799)
        assert source.snapshot() is first
        await mesh.pass_time(1)
        second = source.snapshot()
        assert second.generation == 2
        assert second.svid.leaf.public_key() != first.svid.leaf.public_key()
        assert second.svid.not_after - first.svid.not_after == timedelta(minutes=30)


@pytest.mark.parametrize(("jitter", "seconds"), [(-1.0, 1620), (1.0, 1980)])
async def test_half_life_is_spread_by_the_jitter(jitter: float, seconds: float) -> None:
    mesh = Mesh()
    async with RotatingSource(mesh.issuer, mesh.clock, jitter=lambda: jitter) as source:
        await mesh.clock.until_sleepers()
        await mesh.pass_time(seconds - 1)
        assert source.snapshot().generation == 1
        await mesh.pass_time(1)
        assert source.snapshot().generation == 2


async def test_short_lives_rotate_without_a_busy_loop() -> None:
    mesh = Mesh(svid_ttl=timedelta(seconds=4))
    async with mesh.running() as source:
        for generation in range(1, 6):
            assert source.snapshot().generation == generation
            assert mesh.issuer.asked == generation
            await mesh.pass_time(2)


async def test_every_waiter_for_a_change_gets_the_same_new_context() -> None:
    mesh = Mesh()
    async with mesh.running() as source, asyncio.TaskGroup() as tasks:
        waiting = [tasks.create_task(source.changed()), tasks.create_task(source.changed(after_generation=1))]
        patient = tasks.create_task(source.changed(after_generation=2))
        assert await source.changed(after_generation=0) is source.snapshot()
        await mesh.pass_time(1800)
        assert [await one for one in waiting] == [source.snapshot()] * 2
        assert not patient.done()
        await mesh.pass_time(1800)
        assert (await patient).generation == 3


async def test_a_wait_for_a_change_ends_with_an_error_when_the_source_closes() -> None:
    async with Mesh().running() as source:
        waiting = asyncio.ensure_future(source.changed())
        await asyncio.sleep(0)
    with pytest.raises(LocalIdentityError) as raised:
        await waiting
    assert str(raised.value) == "the source of spiffe://example.org/web was closed"


async def test_while_the_ca_fails_the_valid_svid_is_served_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        first = source.snapshot()
        mesh.issuer.error = LocalIdentityError("no CA answers")
        with caplog.at_level(logging.WARNING, "meshtls.identity"):
            await mesh.pass_time(1800)
        assert source.snapshot() is first
        assert caplog.messages == [
            "SVID spiffe://example.org/web: renewal failed: no CA answers; the present one is valid until"
            f" {first.svid.not_after:%Y-%m-%dT%H:%M:%SZ}; next attempt at"
            f" {mesh.clock.now() + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
        ]
        state, now = source.readiness(), f"{mesh.clock.now():%Y-%m-%dT%H:%M:%SZ}"
        failing = f"expires in 1800 s, renewal failing since {now}: no CA answers"
        assert state == Readiness(True, f"SVID spiffe://example.org/web {failing}")
        assert (source.status.failures, source.status.last_error) == (1, "no CA answers")
        assert source.last_error == "no CA answers"
        assert repr(source).endswith(f"until {first.svid.not_after:%Y-%m-%dT%H:%M:%SZ}, 1 failed tries>")


async def test_a_failed_renewal_is_retried_with_backoff_and_recovers(caplog: pytest.LogCaptureFixture) -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        mesh.issuer.error = LocalIdentityError("no CA answers")
        await mesh.pass_time(1800)
        for wait in (1, 2, 4, 8, 16, 30, 30):
            asked = mesh.issuer.asked
            assert source.status.next_try == mesh.clock.now() + timedelta(seconds=wait)
            await mesh.pass_time(wait)
            assert mesh.issuer.asked == asked + 1
        mesh.issuer.error = None
        with caplog.at_level(logging.WARNING, "meshtls.identity"):
            await mesh.pass_time(30)
        assert source.snapshot().generation == 2
        assert (source.status.failures, source.last_error) == (0, None)
        assert [one.partition(" since ")[0] for one in caplog.messages[1:]] == [
            "SVID spiffe://example.org/web: renewal works again after 8 failures"
        ]


async def test_renewal_is_tried_every_second_with_an_expired_svid(caplog: pytest.LogCaptureFixture) -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        mesh.issuer.error = LocalIdentityError("no CA answers")
        await mesh.pass_time(3601)
        assert not source.readiness().ready
        for _ in range(40):
            asked = mesh.issuer.asked
            await mesh.pass_time(1)
            assert mesh.issuer.asked == asked + 1
        mesh.issuer.error = None
        await mesh.pass_time(1)
        assert source.snapshot().generation == 2
    assert [one.partition("; the present one ")[2][:8] for one in caplog.messages[:-1]] == ["expired "]


async def test_an_expired_svid_is_never_served(caplog: pytest.LogCaptureFixture) -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        expiry = source.snapshot().svid.not_after
        mesh.issuer.error = LocalIdentityError("no CA answers")
        await mesh.pass_time((expiry - mesh.clock.now()).total_seconds())
        assert source.snapshot().generation == 1
        await mesh.pass_time(1)
        with pytest.raises(LocalIdentityError) as raised:
            source.snapshot()
        assert str(raised.value) == (
            f"our SVID spiffe://example.org/web expired at {expiry:%Y-%m-%dT%H:%M:%SZ};"
            f" our clock says {mesh.clock.now():%Y-%m-%dT%H:%M:%SZ}; the last rotation failed: no CA answers"
        )
        assert f"the present one expired at {expiry:%Y-%m-%dT%H:%M:%SZ}" in caplog.messages[-1]
        mesh.issuer.error = None
        await mesh.pass_time(31)
        assert source.snapshot().generation == 2


async def test_a_machine_that_wakes_up_after_the_expiry_rotates_at_once() -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        mesh.clock.advance(86_400)
        with pytest.raises(LocalIdentityError, match="the last rotation failed: it was not tried yet"):
            source.snapshot()
        await mesh.clock.until_sleepers()
        assert source.snapshot().generation == 2


@pytest.mark.parametrize(("seconds", "generation"), [(5, 1), (86_400, 2)], ids=["within the margin", "before its time"])
async def test_a_clock_set_back_before_the_svids_time_makes_it_rotate_at_the_next_look(
    seconds: float, generation: int, caplog: pytest.LogCaptureFixture
) -> None:
    mesh = Mesh()
    mesh.clock.advance(2 * 86_400)  # the CA is older than that
    async with mesh.running() as source:
        caplog.clear()
        mesh.clock.set_back(seconds)
        await mesh.pass_time(30)
        context = source.snapshot()
        assert context.generation == generation
        assert context.svid.not_before <= mesh.clock.now()
        assert ("but our clock, set back, says" in caplog.text) is (generation == 2)


async def test_the_renewal_loop_reads_the_wall_clock_often_because_sleep_may_exclude_suspension() -> None:
    mesh = Mesh()
    async with mesh.running():
        assert mesh.clock.wakes_in == (30.0,)
        await mesh.pass_time(1790)
        assert mesh.clock.wakes_in == (10.0,)


async def test_rotate_rotates_now_and_postpones_the_next_rotation() -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        await mesh.pass_time(1000)
        context = await source.rotate()
        assert context is source.snapshot()
        assert context.generation == 2
        await mesh.pass_time(1799)
        assert source.snapshot() is context
        await mesh.pass_time(1)
        assert source.snapshot().generation == 3


async def test_rotate_that_fails_says_so_and_keeps_the_present_svid() -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        first = source.snapshot()
        mesh.issuer.error = LocalIdentityError("no CA answers")
        with pytest.raises(LocalIdentityError, match="no CA answers"):
            await source.rotate()
        assert source.snapshot() is first
        assert source.status.next_try == mesh.clock.now() + timedelta(seconds=1)


async def test_new_bundles_come_with_the_next_generation() -> None:
    mesh = Mesh()
    partner = make_authority("partner.org").bundle
    async with mesh.running() as source:
        mesh.issuer.bundles = BundleSet([mesh.authority.bundle, partner])
        context = await source.rotate()
        assert context.bundles[TrustDomain("partner.org")] == partner


@pytest.mark.parametrize("authorities", [(), make_authority().bundle.x509_authorities], ids=["none", "another root"])
async def test_an_svid_that_its_own_bundle_does_not_vouch_for_is_not_adopted(
    authorities: tuple[x509.Certificate, ...],
) -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        first = source.snapshot()
        mesh.issuer.bundles = BundleSet([TrustBundle(WEB.trust_domain, authorities)])
        with pytest.raises(LocalIdentityError, match="issued SVID fails verification: peer spiffe"):
            await source.rotate()
        assert source.snapshot() is first


async def test_an_svid_from_a_ca_whose_clock_is_ahead_is_not_adopted() -> None:
    mesh = Mesh()
    ahead = ManualClock(mesh.clock.now() + timedelta(minutes=5))
    issuer = LocalIssuer(make_authority(clock=ahead), WEB)
    with pytest.raises(LocalIdentityError, match=r"is not valid before .*; our clock says"):
        await RotatingSource(issuer, mesh.clock).__aenter__()
    ahead_a_little = ManualClock(mesh.clock.now() + timedelta(seconds=5))
    issuer = LocalIssuer(make_authority(clock=ahead_a_little), WEB)
    async with RotatingSource(issuer, mesh.clock) as source:
        assert source.snapshot().svid.spiffe_id == WEB


async def test_an_issuer_that_certifies_another_key_is_not_used() -> None:
    mesh = Mesh()

    class Stale:
        def __init__(self) -> None:
            self.first: IssuedWithBundles | None = None

        async def issue(self, csr_der: bytes) -> IssuedWithBundles:
            self.first = self.first or await mesh.issuer.issue(csr_der)
            return self.first

    async with RotatingSource(Stale(), mesh.clock) as source:
        with pytest.raises(LocalIdentityError) as raised:
            await source.rotate()
    assert str(raised.value) == (
        "X509-SVID spiffe://example.org/web: the private key does not belong to the certificate"
    )


async def test_a_federated_bundle_never_takes_the_place_of_our_own() -> None:
    mesh = Mesh()
    impostor = make_authority("example.org").bundle
    issuer = LocalIssuer(mesh.authority, WEB, federated=[impostor])
    async with RotatingSource(issuer, mesh.clock) as source:
        assert source.snapshot().bundles[WEB.trust_domain] == mesh.authority.bundle


async def test_a_ca_that_has_expired_is_our_identity_problem() -> None:
    mesh = Mesh()
    mesh.clock.advance(86_400 * 3651)
    with pytest.raises(LocalIdentityError, match="^the CA can't issue: CA certificate"):
        await mesh.source().__aenter__()


async def test_an_error_of_the_body_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Mesh().running():
            raise ZeroDivisionError


async def test_a_rotation_that_dies_of_a_bug_ends_the_body_and_is_seen() -> None:
    mesh = Mesh()

    async def body() -> None:
        async with mesh.running():
            mesh.issuer.error = ZeroDivisionError("a bug")
            mesh.clock.advance(1800)
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await body()
    assert [repr(error) for error in raised.value.exceptions] == ["ZeroDivisionError('a bug')"]


async def test_a_reader_keeps_the_snapshot_it_took() -> None:
    mesh = Mesh()
    async with mesh.running() as source:
        taken: X509Context = source.snapshot()
        await source.rotate()
        assert taken.generation == 1
        assert taken.svid is not source.snapshot().svid
        assert repr(source) == (
            f"<RotatingSource {WEB} gen 2 valid until {source.snapshot().svid.not_after:%Y-%m-%dT%H:%M:%SZ}>"
        )
