"""Nothing that remembers a peer outlives its revocation: live connections, tunnels, sessions, warm connections.

Each peer is revoked by its serial number in a CRL, by its SPIFFE ID or by its authority, and another peer goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from meshtls.bundle import TrustBundle
from meshtls.clock import SystemClock
from meshtls.revocation.building import CrlEntry, build_crl
from meshtls.revocation.crl import parse_crl
from meshtls.revocation.lists import CrlLists, CrlRule
from meshtls.svid.context import ConstantSource
from meshtls.svid.trust import NO_REVOCATIONS, Revocations
from meshtls.svid.x509 import X509Svid
from meshtls.workload.x509_source import X509Source
from tests.integration.sidecar.mesh import (
    FOREIGN,
    OURS,
    PARTNER,
    A,
    B,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    side_a,
    side_b,
)
from tests.integration.sidecar.test_resumption import WELL, Seen, once
from tests.integration.sidecar.test_trust_changes import Turning, ended, met, overlapping
from tests.integration.sidecar.test_warm import pool_of
from tests.support.waiting import SECONDS, until
from tests.support.workload_api import workload_api

CLOCK = SystemClock()
BUNDLES = (OURS.bundle, PARTNER.bundle)


def crls(*revoked: X509Svid, valid: timedelta = timedelta(hours=1)) -> CrlLists:
    """The CRL of our intermediate, as the Workload API sends it."""
    now, signer = CLOCK.now(), OURS.intermediate
    entries = [CrlEntry(one.leaf.serial_number, now) for one in revoked]
    der = build_crl(
        signer.certificate,
        signer.private_key,
        entries,
        number=1,
        now=now - timedelta(minutes=1),
        next_update=now + valid,
    )
    return CrlLists((parse_crl(der),))


def in_a_crl(svid: X509Svid) -> Revocations:
    return Revocations(lists=crls(svid))


def by_id(svid: X509Svid) -> Revocations:
    return Revocations.of(spiffe_ids=[svid.spiffe_id])


def by_intermediate(svid: X509Svid) -> Revocations:
    return Revocations.of(authorities=[svid.chain[1]])


def by_root(svid: X509Svid) -> Revocations:
    return Revocations.of(authorities=OURS.bundle.x509_authorities)


Revoking = Callable[[X509Svid], Revocations]
WAYS = pytest.mark.parametrize("revoking", [in_a_crl, by_id, by_intermediate, by_root])


@WAYS
@pytest.mark.parametrize("tunnel", [False, True], ids=["plain TLS", "tunnel"])
async def test_a_live_connection_ends_with_a_revocation_of_its_peer_and_another_goes_on(
    tunnel: bool, revoking: Revoking
) -> None:
    async with met(tunnel=tunnel) as mesh:
        mesh.source.turn(*BUNDLES, revoked=Revocations(lists=crls()))  # a CRL that lists nobody
        assert (await echoed(mesh.of_a), await echoed(mesh.of_guest)) == (b"ping", b"ping")
        mesh.source.turn(*BUNDLES, revoked=revoking(mesh.a_svid))
        line = await mesh.b.lines.the("PEER_REVOKED")
        assert line["source_id"] == str(A)
        assert "revoked" in line["detail"]
        assert await ended(mesh.of_a) == b""
        assert await echoed(mesh.of_guest) == b"ping"


@WAYS
@pytest.mark.parametrize("tunnel", [False, True], ids=["plain TLS", "tunnel"])
async def test_a_revoked_peer_is_refused_until_it_is_admitted_again(tunnel: bool, revoking: Revoking) -> None:
    source, a_context = Turning(as_b()), as_a()
    async with (
        an_app() as app,
        side_b(app.address, source=source, tunnel=tunnel) as b,
        side_a(b.inbound, a_context, tunnel=tunnel) as a,
    ):
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert await b.lines.outcome() == "OK"
        source.turn(OURS.bundle, revoked=revoking(a_context.svid))
        async with connected(a.outbound) as streams:
            assert await ended(streams) == b""
        assert (await b.lines.the("PEER_REVOKED"))["detail"].startswith(f"peer {A}: ")
        assert app.connections == 1
        source.turn(OURS.bundle, revoked=NO_REVOCATIONS)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"


@WAYS
async def test_a_revoked_peer_does_not_resume_its_session(revoking: Revoking) -> None:
    source, a_context = Turning(as_b()), as_a()
    async with (
        an_app() as app,
        side_b(app.address, source=source, resumption=True) as b,
        side_a(b.inbound, a_context, resumption=True) as a,
    ):
        assert [await once(a, b) for _ in range(2)] == [Seen(WELL, (False, False)), Seen(WELL, (True, True))]
        source.turn(OURS.bundle, revoked=revoking(a_context.svid))
        async with connected(a.outbound) as streams:
            assert await ended(streams) == b""
        assert (await b.lines.the("PEER_REVOKED"))["detail"].startswith(f"peer {A}: ")
        assert app.connections == 2
        source.turn(OURS.bundle)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert (await b.lines.the("OK"))["resumed"] is False


@WAYS
async def test_a_warm_connection_to_a_revoked_peer_is_not_served(revoking: Revoking) -> None:
    source, b_context = Turning(as_a()), as_b()
    async with (
        an_app() as app,
        side_b(app.address, source=ConstantSource(b_context)) as b,
        side_a(b.inbound, source, warm=1) as a,
    ):
        await until(lambda: len(pool_of(a)) == 1)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert (await a.lines.next())["handshake_ms"] is None, "the warm one was served"
        await until(lambda: len(pool_of(a)) == 1)
        source.turn(OURS.bundle, revoked=revoking(b_context.svid))
        async with connected(a.outbound) as streams:
            assert await ended(streams) == b""
        line = await a.lines.the("PEER_REVOKED")
        assert line["detail"].startswith(f"peer {B}: ")
        assert line["bytes_in"] == 0


async def test_a_stream_of_a_tunnel_that_was_open_before_the_revocation_is_not_served() -> None:
    source, a_context = Turning(as_b()), as_a()
    async with (
        an_app() as app,
        side_b(app.address, source=source, tunnel=True) as b,
        side_a(b.inbound, a_context, tunnel=True) as a,
        connected(a.outbound) as first,
    ):
        assert await echoed(first) == b"ping"
        source.turn(OURS.bundle, revoked=in_a_crl(a_context.svid))
        async with connected(a.outbound) as second:
            assert await ended(second) == b""
        assert await ended(first) == b""
        assert app.connections == 1


#: The bundle at the end of a rotation, in which a tainted root was revoked, and the one before that.
NEXT_ROOT, BOTH_ROOTS = replace(OURS.bundle, x509_authorities=FOREIGN.bundle.x509_authorities), overlapping()
END = pytest.mark.parametrize("left", [NEXT_ROOT, BOTH_ROOTS], ids=["the root left the bundle", "it is there yet"])


async def is_served(streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bool:
    try:
        return await echoed(streams) == b"ping"
    except ConnectionError:
        return False


@END
async def test_a_session_does_not_outlive_the_root_of_its_peer(left: TrustBundle) -> None:
    source = Turning(as_b())
    async with (
        an_app() as app,
        side_b(app.address, source=source, resumption=True) as b,
        side_a(b.inbound, as_a(), resumption=True) as a,
    ):
        assert [await once(a, b) for _ in range(2)] == [Seen(WELL, (False, False)), Seen(WELL, (True, True))]
        source.turn(left)
        async with connected(a.outbound) as streams:
            assert await is_served(streams) is (left is BOTH_ROOTS)
        assert app.connections == (3 if left is BOTH_ROOTS else 2)


@END
async def test_a_warm_connection_does_not_outlive_the_root_of_its_peer(left: TrustBundle) -> None:
    source = Turning(as_a())
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, source, warm=1) as a:
        await until(lambda: len(pool_of(a)) == 1)
        source.turn(left)
        async with connected(a.outbound) as streams:
            assert await is_served(streams) is (left is BOTH_ROOTS)


@END
async def test_a_tunnel_does_not_outlive_the_root_of_its_peer(left: TrustBundle) -> None:
    source = Turning(as_b())
    async with (
        an_app() as app,
        side_b(app.address, source=source, tunnel=True) as b,
        side_a(b.inbound, as_a(), tunnel=True) as a,
        connected(a.outbound) as first,
    ):
        assert await echoed(first) == b"ping"
        source.turn(left)
        async with connected(a.outbound) as second:
            assert await is_served(second) is (left is BOTH_ROOTS)
        if left is BOTH_ROOTS:
            assert await echoed(first) == b"ping"
        else:
            assert await ended(first) == b""
            assert app.connections == 1


async def test_a_crl_of_the_workload_api_ends_what_lives(tmp_path: Path) -> None:
    a_context = as_a()
    async with (
        workload_api(tmp_path / "api.sock", as_b()) as api,
        X509Source(api.address) as source,
        an_app() as app,
        side_b(app.address, source=source) as b,
        side_a(b.inbound, a_context) as a,
        connected(a.outbound) as live,
    ):
        assert await echoed(live) == b"ping"
        api.push(replace(api.context, revocations=Revocations(lists=crls())))
        await asyncio.wait_for(source.changed(1), SECONDS)
        assert await echoed(live) == b"ping"
        api.push(replace(api.context, revocations=in_a_crl(a_context.svid)))
        line = await b.lines.the("PEER_REVOKED")
        assert line["detail"] == f"peer {A}: certificate {a_context.svid.serial} was revoked by its issuer"
        assert await ended(live) == b""


@pytest.mark.parametrize("loud", [False, True])
async def test_a_configured_crl_that_is_missing_refuses_new_peers_unless_told_otherwise(loud: bool) -> None:
    rule = CrlRule(accept_peers_without_a_fresh_crl=loud)
    lists = CrlLists(rules={OURS.trust_domain: rule})
    source = Turning(replace(as_b(), revocations=Revocations(lists=lists)))
    async with an_app() as app, side_b(app.address, source=source) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            if loud:
                assert await echoed(streams) == b"ping"
                return
            assert await ended(streams) == b""
        line = await b.lines.the("PEER_UNTRUSTED")
        assert line["detail"].endswith("was revoked is unknown: there is no CRL of its issuer")
        received = replace(lists, received=crls().received, rules={OURS.trust_domain: CrlRule(leaves_only=True)})
        source.turn(OURS.bundle, revoked=Revocations(lists=received))
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
