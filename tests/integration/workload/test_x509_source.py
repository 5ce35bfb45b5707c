"""The X.509 source over a real Workload API: ready when entered, rotating, outliving outages, never expired."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from grpclib import Status

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.errors import IdentityWithdrawnError, LocalIdentityError
from meshtls.observe.readiness import Readiness
from meshtls.policy.authorizer import authorize_any, authorize_id
from meshtls.svid.context import X509Context, X509ContextSource
from meshtls.svid.x509 import X509Svid
from meshtls.tls.context import TlsContexts
from meshtls.tls.streams import dial, listen
from meshtls.workload.failures import WorkloadApiError
from meshtls.workload.x509_source import X509Source
from tests.support.authority import context_for, make_authority, svid_for
from tests.support.clock import ManualClock
from tests.support.waiting import until
from tests.support.workload_api import WorkloadApi

CLOSED = "this source of X509-SVIDs was closed; enter it again with 'async with'"

#: A TLS record: alert, fatal, internal_error (RFC 8446, section 6).
ALERT_INTERNAL_ERROR = b"\x15\x03\x03\x00\x02\x02\x50"


def source_of(api: WorkloadApi, clock: ManualClock) -> X509Source:
    return X509Source(api.address, clock=clock, jitter=lambda: 0)


class TestEntering:
    async def test_entering_returns_with_the_first_svid(self, api: WorkloadApi, clock: ManualClock) -> None:
        async with source_of(api, clock) as source:
            meets: X509ContextSource = source
            context = meets.snapshot()
            assert (context.generation, context.svids) == (1, api.context.svids)
            end = f"{context.svid.not_after:%Y-%m-%dT%H:%M:%SZ}"
            assert repr(source) == f"<X509Source spiffe://example.org/web [gen 1 until {end}]>"

    async def test_a_source_may_be_re_entered_and_starts_afresh(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        source = source_of(api, clock)
        async with source:
            first = source.snapshot()
        api.push(context_for(authority, "/web"))
        async with source:
            second = source.snapshot()
            assert (second.generation, second.svids) == (2, api.context.svids)
            assert source.last_error is None
            changing = asyncio.ensure_future(source.changed())
            api.push(context_for(authority, "/web"))
            assert (await asyncio.wait_for(changing, 10)).svids == api.context.svids
        assert first.svids != second.svids

    async def test_a_left_source_serves_nothing_until_re_entered(self, api: WorkloadApi, clock: ManualClock) -> None:
        source = source_of(api, clock)
        async with source:
            assert source.snapshot().svids == api.context.svids
        for _ in range(2):
            with pytest.raises(LocalIdentityError) as raised:
                source.snapshot()
            assert str(raised.value) == CLOSED
        with pytest.raises(LocalIdentityError) as raised:
            await source.changed(0)
        assert str(raised.value) == CLOSED
        assert repr(source) == f"<X509Source {api.address} [closed]>"
        async with source:
            assert source.snapshot().svids == api.context.svids

    async def test_a_context_over_a_left_source_makes_no_new_connections(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        source = source_of(api, clock)
        contexts = TlsContexts(source, authorize_any(), server_side=False, clock=clock)
        async with source:
            assert contexts.current().snapshot is source.snapshot()
        with pytest.raises(LocalIdentityError) as raised:
            contexts.current()
        assert str(raised.value) == CLOSED

    async def test_a_re_entered_source_waits_for_the_workload_api_again(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        source = source_of(api, clock)
        async with source:
            pass
        api.silent = True
        entering = asyncio.ensure_future(source.__aenter__())
        await api.until_called("FetchX509SVID", 2)
        clock.advance(30)
        with pytest.raises(LocalIdentityError, match="^no X509-SVID in 30 s: nothing was sent$"):
            await entering

    async def test_entering_waits_for_a_missing_identity(self, api: WorkloadApi, clock: ManualClock) -> None:
        api.refuse(Status.PERMISSION_DENIED)
        source = source_of(api, clock)
        entering = asyncio.ensure_future(source.__aenter__())
        await clock.until_sleepers(2)
        assert repr(source) == f"<X509Source {api.address} [no SVID yet, 1 failed tries]>"
        api.push(api.context)
        clock.advance(1)
        await entering
        assert source.snapshot().svids == api.context.svids
        await source.__aexit__(None, None, None)

    async def test_entering_gives_up_after_the_timeout_with_the_latest_reason(
        self, tmp_path: Path, clock: ManualClock
    ) -> None:
        address = f"unix://{tmp_path}/none.sock"
        entering = asyncio.ensure_future(X509Source(address, clock=clock, timeout=30).__aenter__())
        await clock.until_sleepers(2)
        clock.advance(30)
        with pytest.raises(LocalIdentityError) as raised:
            await entering
        assert str(raised.value) == (
            f"no X509-SVID in 30 s: Workload API at {address}, FetchX509SVID: cannot connect"
            " (No such file or directory); check that the agent is running"
        )

    async def test_entering_gives_up_on_a_silent_workload_api(self, api: WorkloadApi, clock: ManualClock) -> None:
        api.silent = True
        entering = asyncio.ensure_future(X509Source(api.address, clock=clock, timeout=5).__aenter__())
        await api.until_called("FetchX509SVID", 1)
        clock.advance(5)
        with pytest.raises(LocalIdentityError) as raised:
            await entering
        assert str(raised.value) == "no X509-SVID in 5 s: nothing was sent"

    async def test_entering_gives_up_at_once_on_a_permanent_error(self, api: WorkloadApi) -> None:
        api.refuse(Status.UNIMPLEMENTED)
        with pytest.raises(WorkloadApiError, match="UNIMPLEMENTED"):
            await X509Source(api.address, timeout=None).__aenter__()

    async def test_a_snapshot_before_entering_is_refused(self, api: WorkloadApi) -> None:
        with pytest.raises(LocalIdentityError) as raised:
            X509Source(api.address).snapshot()
        assert str(raised.value) == "no X509-SVID yet: enter the source with 'async with' first"

    async def test_the_bodys_own_exception_comes_out_as_it_is(self, api: WorkloadApi) -> None:
        with pytest.raises(ZeroDivisionError):
            async with X509Source(api.address):
                raise ZeroDivisionError


class TestRotation:
    async def test_changed_yields_each_rotation(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        async with source_of(api, clock) as source:
            for generation in (2, 3):
                api.push(context_for(authority, "/web", federated=[make_authority("partner.test").bundle]))
                context = await source.changed(generation - 1)
                assert (context.generation, context.svids) == (generation, api.context.svids)
                assert source.snapshot() is context
                assert len(context.bundles) == 2

    async def test_an_unchanged_state_after_a_reconnect_is_no_rotation(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        async with source_of(api, clock) as source:
            first = source.snapshot()
            api.refuse(Status.UNAVAILABLE)
            await clock.until_sleepers()
            assert isinstance(source.last_error, WorkloadApiError)
            api.push(api.context)
            clock.advance(1)
            await api.until_called("FetchX509SVID", 2)
            api.push(context_for(authority, "/web"))
            assert (await source.changed()).generation == 2
            assert first.generation == 1

    async def test_waiters_get_an_error_when_the_source_closes(self, api: WorkloadApi, clock: ManualClock) -> None:
        async with source_of(api, clock) as source:
            waiting = asyncio.ensure_future(source.changed())
            await asyncio.sleep(0)
        with pytest.raises(LocalIdentityError) as raised:
            await waiting
        assert str(raised.value) == CLOSED

    async def test_a_live_tls_listener_follows_the_source(
        self, api: WorkloadApi, authority: Authority, tmp_path: Path
    ) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.write_eof()

        web = authorize_id("spiffe://example.org/web")
        async with X509Source(api.address) as source, await listen("127.0.0.1", 0, source, web, greet) as listener:
            host, port = listener.address
            serials = []
            for _ in range(2):
                reader, writer = await dial(host, port, source, web)
                assert await reader.read() == b"hello"
                serials.append(writer.get_extra_info("ssl_object").peer.serial)
                writer.close()
                await writer.wait_closed()
                api.push(context_for(authority, "/web"))
                await source.changed()
            assert serials[0] != serials[1]


class TestOutages:
    async def test_a_source_serves_a_valid_svid_and_never_an_expired_one(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        api.push(context_for(authority, "/web", ttl=timedelta(seconds=100)))
        async with source_of(api, clock) as source:
            api.refuse(Status.UNAVAILABLE)
            await clock.until_sleepers()
            end = source.snapshot().svid.not_after
            clock.advance((end - clock.now()).total_seconds())
            assert source.snapshot().generation == 1
            clock.advance(1)
            with pytest.raises(LocalIdentityError) as raised:
                source.snapshot()
            at, now = (f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in (end, clock.now()))
            assert str(raised.value).startswith(
                f"our SVID spiffe://example.org/web expired at {at}; our clock says {now};"
                f" Workload API at {api.address}, FetchX509SVID: UNAVAILABLE"
            )
            await clock.until_sleepers()
            api.push(context_for(authority, "/web"))
            clock.advance(1)  # and not after a backoff
            assert (await source.changed(1)).svids == api.context.svids
            assert source.snapshot().generation == 2

    async def test_a_source_recovers_when_the_workload_api_comes_back(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        async with source_of(api, clock) as source:
            await api.stop()
            for wait in (1, 2, 4):
                await clock.until_sleepers()
                clock.advance(wait)
            await clock.until_sleepers()
            assert repr(source).endswith(", 4 failed tries]>")
            api.context = context_for(authority, "/web")
            await api.start()
            clock.advance(8)
            assert (await source.changed()).svids == api.context.svids
            assert source.last_error is None

    async def test_a_state_that_is_refused_leaves_the_present_one(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        async with source_of(api, clock) as source:
            good = api.context
            api.push(replace(good, svids=()))
            await clock.until_sleepers()
            assert source.snapshot().svids == good.svids
            assert "the Workload API sent no X509-SVID" in str(source.last_error)
            api.context = context_for(authority, "/web")
            clock.advance(1)
            assert (await source.changed(1)).svids == api.context.svids

    async def test_a_workload_api_replaced_by_another_service_is_not_asked_again(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        async with source_of(api, clock) as source:
            api.refuse(Status.UNIMPLEMENTED)
            with pytest.raises(WorkloadApiError, match="UNIMPLEMENTED"):
                await source.changed()
            assert source.snapshot().svids == api.context.svids
            assert repr(source).endswith(", over]>")
        assert (api.calls["FetchX509SVID"], clock.wakes_in) == (1, ())


class TestWithdrawal:
    """SPIFFE Workload API, section 5.2.1: a withdrawn SVID is no longer used."""

    async def test_permission_denied_withdraws_the_svid_at_once_and_a_new_entry_restores_it_within_a_second(
        self, api: WorkloadApi, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with source_of(api, clock) as source:
            held = source.snapshot()
            api.refuse(Status.PERMISSION_DENIED)
            denied = str(await asyncio.wait_for(source.withdrawn(), 10))
            assert denied.startswith(
                f"Workload API at {api.address}, FetchX509SVID: PERMISSION_DENIED: no identity issued"
            )
            with pytest.raises(IdentityWithdrawnError) as raised:
                source.snapshot()
            assert str(raised.value) == f"X509-SVID withdrawn: {denied}"
            assert source.readiness() == Readiness(False, f"a valid SVID: X509-SVID withdrawn: {denied}")
            assert repr(source) == f"<X509Source {api.address} [no SVID, withdrawn, 1 failed tries]>"
            healed = asyncio.ensure_future(source.changed())
            for _ in range(9):
                await clock.until_sleepers()
                clock.advance(1)
            await clock.until_sleepers()
            assert api.calls["FetchX509SVID"] == 10  # every second, and not after a backoff
            api.push(api.context)
            clock.advance(1)
            context = await asyncio.wait_for(healed, 10)
            assert (context.generation, context.svids) == (2, held.svids)
            assert source.snapshot() is context
            assert source.readiness() == Readiness(True)
        since = f"{clock.now() - timedelta(seconds=10):%Y-%m-%dT%H:%M:%SZ}"
        assert caplog.messages == [
            f"X509-SVID: no_identity: {denied}; the previous one is no longer used; trying again",
            f"X509-SVID: the Workload API sends it again after 10 failures since {since}",
        ]

    async def test_unavailable_withdraws_nothing(self, api: WorkloadApi, clock: ManualClock) -> None:
        async with source_of(api, clock) as source:
            held = source.snapshot()
            api.refuse(Status.UNAVAILABLE)
            await clock.until_sleepers()
            assert source.snapshot() is held
            state = source.readiness()
            assert state.ready
            left, now = 3600, f"{clock.now():%Y-%m-%dT%H:%M:%SZ}"
            assert state.text.startswith(
                f"SVID spiffe://example.org/web expires in {left} s, renewal failing since {now}: Workload API at "
            )

    async def test_a_denial_after_an_outage_withdraws_the_identity(self, api: WorkloadApi, clock: ManualClock) -> None:
        async with source_of(api, clock) as source:
            await api.stop()
            await clock.until_sleepers()
            assert source.snapshot().svids == api.context.svids
            api.refuse(Status.PERMISSION_DENIED)
            await api.start()
            clock.advance(1)
            await asyncio.wait_for(source.withdrawn(), 10)
            with pytest.raises(IdentityWithdrawnError):
                source.snapshot()

    async def test_a_picker_says_in_its_own_words_what_it_wanted(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        def web(svids: tuple[X509Svid, ...]) -> X509Svid:
            if (first := svids[0]).spiffe_id.path != "/web":
                raise LookupError(f"wanted /web, got {first.spiffe_id.path}")
            return first

        api.push(context_for(authority, "/web"))
        async with X509Source(api.address, picker=web, clock=clock) as source:
            api.push(context_for(authority, "/db"))
            why = str(await asyncio.wait_for(source.withdrawn(), 10))
        assert why == "the Workload API no longer names spiffe://example.org/web; wanted /web, got /db"

    async def test_an_unnamed_identity_is_not_used_as_a_fallback(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        def web(svids: tuple[X509Svid, ...]) -> X509Svid:
            return next(svid for svid in svids if svid.spiffe_id.path == "/web")

        async with X509Source(api.address, picker=web, clock=clock) as source:
            api.push(context_for(authority, "/db"))
            why = str(await asyncio.wait_for(source.withdrawn(), 10))
            assert why == (
                "the Workload API no longer names spiffe://example.org/web; the picker chose none of our X509-SVIDs:"
                " spiffe://example.org/db"
            )
            with pytest.raises(IdentityWithdrawnError):
                source.snapshot()
            api.push(context_for(authority, "/web"))
            assert (await source.changed()).svid.spiffe_id.path == "/web"

    @pytest.mark.parametrize("expired", [True, False])
    async def test_an_expired_identity_that_is_not_named_was_not_renewed_and_not_withdrawn(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock, expired: bool
    ) -> None:
        def web(svids: tuple[X509Svid, ...]) -> X509Svid:
            if (first := svids[0]).spiffe_id.path != "/web":
                raise LookupError(f"wanted /web, got {first.spiffe_id.path}; create an entry for it")
            return first

        api.push(context_for(authority, "/web", ttl=timedelta(minutes=1)))
        async with X509Source(api.address, picker=web, clock=clock) as source:
            ends = source.snapshot().svid.not_after
            clock.advance((ends - clock.now()).total_seconds() + (1 if expired else -1))
            withdrawn = asyncio.ensure_future(source.withdrawn())
            for tries, path in enumerate(("/db", "/mail"), 1):  # what is said stays true when others are sent again
                api.push(context_for(authority, path))
                await until(lambda wanted=f"{tries} failed tries": wanted in repr(source))  # type: ignore[misc]
            if not expired:
                assert "the Workload API no longer names" in str(await asyncio.wait_for(withdrawn, 10))
                return
            assert source.readiness() == Readiness(
                False,
                f"a valid SVID: spiffe://example.org/web expired at {ends:%Y-%m-%dT%H:%M:%SZ} and was not renewed: the"
                " agent has no newer one, and `meshtls admin ready` of the agent says why",
            )
            api.push(context_for(authority, "/web"))
            assert (await source.changed()).svid.spiffe_id.path == "/web"
            assert not withdrawn.done()
            withdrawn.cancel()

    async def test_a_picker_that_fails_after_a_withdrawal_is_asked_again(
        self, api: WorkloadApi, clock: ManualClock
    ) -> None:
        picker = Failing(None)
        async with X509Source(api.address, picker=picker, clock=clock, jitter=lambda: 0) as source:
            api.refuse(Status.PERMISSION_DENIED)
            await source.withdrawn()
            picker.error = AttributeError("hints")
            await clock.until_sleepers()
            api.push(api.context)
            clock.advance(1)
            await asyncio.wait_for(picker.failed.wait(), 10)
            picker.error = None
            api.push(api.context)
            assert (await asyncio.wait_for(source.changed(), 10)).generation == 2

    async def test_a_listener_without_an_identity_cuts_callers_off_and_dial_says_why(
        self, api: WorkloadApi, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.write_eof()

        web = authorize_id("spiffe://example.org/web")
        async with X509Source(api.address) as source, await listen("127.0.0.1", 0, source, web, greet) as listener:
            host, port = listener.address
            api.refuse(Status.PERMISSION_DENIED)
            await source.withdrawn()
            caplog.clear()
            with pytest.raises(IdentityWithdrawnError, match="X509-SVID withdrawn: .*PERMISSION_DENIED"):
                await dial(host, port, source, web)
            for _ in range(5):
                reader, writer = await asyncio.open_connection(host, port)
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.wait_for(reader.read(), 10) == ALERT_INTERNAL_ERROR
                writer.close()
            tls = [one.getMessage() for one in caplog.records if one.name == "meshtls.tls"]
            assert [one.partition(": ")[0] for one in tls] == [
                "no connection can be made",
                "no connection can be accepted",
            ]
            api.push(api.context)
            await source.changed()
            reader, writer = await dial(host, port, source, web)
            assert await reader.read() == b"hello"
            writer.close()
            assert any(
                "an identity is there again: connections can be accepted after 5 failures" in one
                for one in caplog.messages
            )


class TestExpiredOnArrival:
    async def test_an_expired_svid_takes_no_valid_ones_place(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        stale = svid_for(authority, "/web", ttl=timedelta(seconds=60))
        clock.advance(120)
        valid = context_for(authority, "/web")
        api.push(valid)
        async with source_of(api, clock) as source:
            partner = make_authority("partner.test").bundle
            api.push(X509Context(1, (stale,), BundleSet([authority.bundle, partner])))
            context = await asyncio.wait_for(source.changed(), 10)
            # Our SVID stays; the rest of the message is news.
            assert (context.svids, len(context.bundles)) == (valid.svids, 2)
            assert source.readiness() == Readiness(True)
            assert [one for one in caplog.messages if "expired" in one] == [
                "the Workload API sent expired X509-SVIDs, which are not used: spiffe://example.org/web expired at"
                f" {stale.not_after:%Y-%m-%dT%H:%M:%SZ}; our clock says {clock.now():%Y-%m-%dT%H:%M:%SZ}"
            ]

    async def test_an_expired_svid_is_not_the_default_before_a_valid_one(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        stale = svid_for(authority, "/admin", ttl=timedelta(seconds=60))
        clock.advance(120)
        valid = svid_for(authority, "/web")
        api.push(X509Context(1, (stale, valid), BundleSet([authority.bundle])))
        async with source_of(api, clock) as source:
            assert source.snapshot().svids == (valid,)

    async def test_entering_waits_for_a_valid_svid(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        api.push(context_for(authority, "/web", ttl=timedelta(seconds=60)))
        clock.advance(120)
        entering = asyncio.ensure_future(source_of(api, clock).__aenter__())
        await api.until_called("FetchX509SVID", 1)
        valid = context_for(authority, "/web")
        api.push(valid)
        source = await asyncio.wait_for(entering, 10)
        assert source.snapshot().svids == valid.svids
        await source.__aexit__(None, None, None)


class TestReadiness:
    async def test_readiness_warns_before_expiry_that_no_newer_svid_has_come(
        self, api: WorkloadApi, authority: Authority, clock: ManualClock
    ) -> None:
        api.push(context_for(authority, "/web", ttl=timedelta(seconds=90)))
        async with source_of(api, clock) as source:
            assert source.readiness() == Readiness(True)
            clock.advance(70)
            warned = Readiness(True, "SVID spiffe://example.org/web expires in 20 s, and no newer one was received")
            assert source.readiness() == warned
            clock.advance(21)
            assert not source.readiness().ready
            assert "expired at" in source.readiness().text


class TestPicker:
    @pytest.fixture
    def several(self, api: WorkloadApi, authority: Authority) -> tuple[X509Svid, ...]:
        svids = tuple(svid_for(authority, path) for path in ("/web", "/admin", "/db"))
        api.push(X509Context(1, svids, BundleSet([authority.bundle])))
        return svids

    async def test_without_a_picker_the_first_is_the_default(
        self, api: WorkloadApi, several: tuple[X509Svid, ...]
    ) -> None:
        async with X509Source(api.address) as source:
            assert source.snapshot().svids == several

    async def test_the_pickers_choice_is_the_default_and_the_others_keep_their_order(
        self, api: WorkloadApi, several: tuple[X509Svid, ...]
    ) -> None:
        async with X509Source(api.address, picker=lambda svids: svids[1]) as source:
            assert source.snapshot().svids == (several[1], several[0], several[2])

    async def test_a_picker_that_finds_none_leaves_the_present_svid(
        self, api: WorkloadApi, several: tuple[X509Svid, ...], authority: Authority, clock: ManualClock
    ) -> None:
        def admin(svids: tuple[X509Svid, ...]) -> X509Svid:
            return next(svid for svid in svids if svid.spiffe_id.path == "/admin")

        async with X509Source(api.address, picker=admin, clock=clock) as source:
            api.push(context_for(authority, "/web"))
            api.push(X509Context(1, (several[0], svid_for(authority, "/admin")), BundleSet([authority.bundle])))
            context = await source.changed()
            assert (context.generation, context.svid.spiffe_id.path) == (2, "/admin")

    async def test_a_picker_must_choose_one_of_the_svids(
        self, api: WorkloadApi, several: tuple[X509Svid, ...], authority: Authority, clock: ManualClock
    ) -> None:
        asked = asyncio.Event()
        stranger = svid_for(authority, "/stranger")

        def pick(_: tuple[X509Svid, ...]) -> X509Svid:
            asked.set()
            return stranger

        entering = asyncio.ensure_future(X509Source(api.address, picker=pick, clock=clock).__aenter__())
        await asked.wait()
        clock.advance(30)
        with pytest.raises(LocalIdentityError) as raised:
            await entering
        assert str(raised.value) == (
            "no X509-SVID in 30 s: the picker chose none of our X509-SVIDs: spiffe://example.org/web,"
            " spiffe://example.org/admin, spiffe://example.org/db"
        )

    @pytest.mark.parametrize("error", [AttributeError("hints"), ZeroDivisionError(), StopAsyncIteration(), OSError()])
    async def test_a_picker_that_fails_on_the_first_svids_comes_out_of_entering_at_once(
        self, api: WorkloadApi, clock: ManualClock, error: Exception
    ) -> None:
        source = X509Source(api.address, picker=Failing(error), clock=clock, timeout=None)
        with pytest.raises(LocalIdentityError) as raised:
            await asyncio.wait_for(source.__aenter__(), 10)
        assert str(raised.value) == failed_on("spiffe://example.org/web", error)
        assert raised.value.__cause__ is error
        async with X509Source(api.address, picker=Failing(None), clock=clock) as source:
            assert source.snapshot().svids == api.context.svids

    @pytest.mark.parametrize("error", [AttributeError("hints"), RuntimeError("no more")])
    async def test_a_picker_that_fails_later_leaves_the_present_svid_and_is_asked_again(
        self,
        api: WorkloadApi,
        authority: Authority,
        clock: ManualClock,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
    ) -> None:
        picker, first = Failing(None), api.context.svids
        async with X509Source(api.address, picker=picker, clock=clock) as source:
            picker.error = error
            api.push(context_for(authority, "/web"))
            await asyncio.wait_for(picker.failed.wait(), 10)
            assert source.snapshot().svids == first
            assert str(source.last_error) == failed_on("spiffe://example.org/web", error)
            assert caplog.messages == [f"X509-SVID: other: {source.last_error}; trying again"]
            picker.error = None
            api.push(context_for(authority, "/web"))
            assert (await asyncio.wait_for(source.changed(1), 10)).svids == api.context.svids
            assert source.last_error is None


class Failing:
    """A picker that picks the first SVID, or raises the error that a test sets."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.failed = asyncio.Event()

    def __call__(self, svids: tuple[X509Svid, ...]) -> X509Svid:
        if self.error is None:
            return svids[0]
        asyncio.get_running_loop().call_soon(self.failed.set)  # when the source has received it
        raise self.error


def failed_on(svids: str, error: Exception) -> str:
    return (
        f"the picker failed on our X509-SVIDs {svids}: {type(error).__name__}: {error}; wanted one of them,"
        " or a LookupError if none fits"
    )
