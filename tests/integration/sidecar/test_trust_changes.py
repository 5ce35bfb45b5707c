"""Trust that changes under live connections: those that it still covers go on, and the others end and say why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import LocalIdentityError
from meshtls.sidecar.settings import Mode
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.trust import NO_REVOCATIONS, Revocations, RevokedCertificate
from meshtls.svid.x509 import X509Svid
from meshtls.workload.x509_source import X509Source
from tests.integration.sidecar.mesh import (
    FOREIGN,
    OURS,
    PARTNER,
    A,
    App,
    B,
    Node,
    Streams,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    rest,
    side_a,
    side_b,
)
from tests.support.authority import context_for
from tests.support.waiting import SECONDS
from tests.support.workload_api import workload_api

GUEST = SpiffeId.parse("spiffe://partner.test/guest")


@dataclass
class Turning:
    """A source whose context a test exchanges, and that says so."""

    context: X509Context
    _turned: asyncio.Event = field(default_factory=asyncio.Event)

    def snapshot(self) -> X509Context:
        return self.context

    async def changed(self, after_generation: int | None = None) -> X509Context:
        after = self.context.generation if after_generation is None else after_generation
        while self.context.generation <= after:
            await self._turned.wait()
        return self.context

    async def withdrawn(self) -> LocalIdentityError:
        await asyncio.Event().wait()
        raise AssertionError

    def turn(self, *bundles: TrustBundle, revoked: Revocations = NO_REVOCATIONS) -> None:
        """From now on these are trusted, and the SVID is the same."""
        self.context = replace(
            self.context,
            generation=self.context.generation + 1,
            bundles=BundleSet(bundles),
            revocations=revoked,
        )
        self._turned.set()
        self._turned = asyncio.Event()


def overlapping() -> TrustBundle:
    """Our own domain's, with the roots of two authorities: as while one replaces the other."""
    roots = (*OURS.bundle.x509_authorities, *FOREIGN.bundle.x509_authorities)
    return replace(OURS.bundle, x509_authorities=roots)


def revoking(svid: X509Svid, *, leaf: bool) -> Revocations:
    """The leaf of this SVID, or the intermediate above it."""
    chain = (*svid.chain, *OURS.bundle.x509_authorities)
    place = 0 if leaf else 1
    return Revocations.of([RevokedCertificate.of(chain[place], chain[place + 1])])


async def ended(streams: Streams) -> bytes:
    """What still comes until the connection ends, in whatever way."""
    try:
        return await rest(streams)
    except ConnectionError:
        return b""


@dataclass(frozen=True)
class Met:
    """B, with live connections from A and from a partner's workload."""

    source: Turning
    app: App
    b: Node
    of_a: Streams
    of_guest: Streams
    a_svid: X509Svid


@contextlib.asynccontextmanager
async def met(*, tunnel: bool) -> AsyncIterator[Met]:
    source, a = Turning(as_b()), as_a()
    guest = context_for(PARTNER, GUEST, federated=[OURS.bundle])
    async with (
        an_app() as app,
        side_b(app.address, allow=(A, GUEST), source=source, tunnel=tunnel) as b,
        side_a(b.inbound, a, tunnel=tunnel) as node,
        side_a(b.inbound, guest, tunnel=tunnel) as other,
        connected(node.outbound) as of_a,
        connected(other.outbound) as of_guest,
    ):
        assert (await echoed(of_a), await echoed(of_guest)) == (b"ping", b"ping")
        yield Met(source, app, b, of_a, of_guest, a.svid)


@pytest.mark.parametrize("tunnel", [False, True], ids=["plain TLS", "tunnel"])
@pytest.mark.parametrize("change", ["root", "leaf", "intermediate"])
async def test_a_live_connection_ends_with_the_trust_in_its_peer_and_another_goes_on(tunnel: bool, change: str) -> None:
    async with met(tunnel=tunnel) as mesh:
        # The partner's bundle is gone. Ours has another root beside the one that A's SVID leads to.
        mesh.source.turn(overlapping())
        line = await mesh.b.lines.the("NO_BUNDLE")
        assert line["source_id"] == str(GUEST)
        assert line["detail"] == f"peer {GUEST}: no bundle for trust domain partner.test; known: example.org"
        assert await ended(mesh.of_guest) == b""
        assert await asyncio.wait_for(mesh.app.ended.get(), SECONDS)
        assert await echoed(mesh.of_a) == b"ping"

        # One check of all is over before the next begins: were A's ended by the first, this would not be its outcome.
        if change == "root":
            mesh.source.turn(FOREIGN.bundle)
            wanted, detail = "PEER_UNTRUSTED", f"peer {A}: no path to a root of the bundle of trust domain example.org"
        else:
            mesh.source.turn(overlapping(), revoked=revoking(mesh.a_svid, leaf=change == "leaf"))
            wanted, detail = "PEER_REVOKED", f"peer {A}: certificate "
        line = await mesh.b.lines.the(wanted)
        assert (line["source_id"], line["detail"][: len(detail)]) == (str(A), detail)
        assert await ended(mesh.of_a) == b""
        assert await asyncio.wait_for(mesh.app.ended.get(), SECONDS)
        await asyncio.wait_for(mesh.b.sidecar.registry.emptied(), SECONDS)


@pytest.mark.parametrize("tunnel", [False, True], ids=["plain TLS", "tunnel"])
async def test_a_calling_side_s_connections_end_with_its_trust_in_the_one_it_called(tunnel: bool) -> None:
    source = Turning(as_a())
    async with (
        an_app() as app,
        side_b(app.address, tunnel=tunnel) as b,
        side_a(b.inbound, source, tunnel=tunnel) as a,
        connected(a.outbound) as first,
        connected(a.outbound) as second,
    ):
        assert (await echoed(first), await echoed(second)) == (b"ping", b"ping")
        source.turn(overlapping())
        async with connected(a.outbound) as third:
            assert await echoed(third) == b"ping"
            source.turn(FOREIGN.bundle)
            for _ in range(3):
                line = await a.lines.the("PEER_UNTRUSTED")
                assert (line["destination_id"], line["tunnel"]) == (str(B), tunnel)
                assert line["detail"].startswith(f"peer {B}: no path to a root of the bundle")
            assert [await ended(one) for one in (first, second, third)] == [b""] * 3
        async with connected(a.outbound) as late:
            assert await ended(late) == b""
        await a.lines.the("PEER_UNTRUSTED")


async def test_plaintext_goes_on_when_the_trust_changes() -> None:
    source = Turning(as_b())
    async with (
        an_app() as app,
        side_b(app.address, source=source, mode=Mode.PERMISSIVE) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as secured,
        connected(b.inbound) as plain,
    ):
        assert (await echoed(secured), await echoed(plain)) == (b"ping", b"ping")
        source.turn(FOREIGN.bundle)
        await b.lines.the("PEER_UNTRUSTED")
        assert await ended(secured) == b""
        assert await echoed(plain) == b"ping"


async def test_a_root_that_the_workload_api_takes_away_ends_what_lives_by_it(tmp_path: Path) -> None:
    async with (
        workload_api(tmp_path / "api.sock", as_b()) as api,
        X509Source(api.address) as source,
        an_app() as app,
        side_b(app.address, source=source) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as live,
    ):
        assert await echoed(live) == b"ping"
        api.push(replace(api.context, bundles=BundleSet([overlapping()])))
        await asyncio.wait_for(source.changed(1), SECONDS)
        assert await echoed(live) == b"ping"
        api.push(replace(api.context, bundles=BundleSet([FOREIGN.bundle])))
        assert (await b.lines.the("PEER_UNTRUSTED"))["source_id"] == str(A)
        assert await ended(live) == b""
