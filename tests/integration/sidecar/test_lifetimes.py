"""Deadlines, limits, rotation, policy changes and stopping: what ends a connection, and what must not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any, cast

import pytest

from meshtls.address import Address
from meshtls.errors import ConfigError, HandshakeError, LocalIdentityError
from meshtls.identity.issuer import LocalIssuer
from meshtls.identity.rotating import RotatingSource
from meshtls.policy.authorizer import Authorizer, Decision, Target
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.request import Request
from meshtls.sidecar.run import run_until_signal
from meshtls.sidecar.settings import InboundConfig, Limits, Mode, SidecarConfig, TlsMinimum
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.svid.verify import VerifiedPeer
from meshtls.tls.context import TlsOptions
from meshtls.tls.engine import TlsEngine
from tests.integration.sidecar.governed import governed
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    OTHER,
    OURS,
    A,
    B,
    Node,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    patient,
    rest,
    running,
    side_a,
    side_b,
)
from tests.integration.sidecar.raw_peer import RawPeer, a_raw_client
from tests.support.authority import context_for
from tests.support.loop_clock import LoopClock
from tests.support.scraping import scraped, value
from tests.support.tls import SlowClient, context_of, engine_of
from tests.support.waiting import SECONDS, until


async def test_rotation_keeps_live_connections_and_the_next_handshake_uses_the_new_svid() -> None:
    source = RotatingSource(LocalIssuer(OURS, B))
    async with source, an_app() as app, side_b(app.address, source=source) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as old:
            assert await echoed(old) == b"ping"
            first, second = source.snapshot(), await source.rotate()
            async with connected(a.outbound) as new:
                assert await echoed(new) == b"ping"
                assert await echoed(old) == b"ping"
            after = await b.lines.next()
        before = await b.lines.next()
    assert (before["generation"], after["generation"]) == (first.generation, second.generation)
    assert (before["local_serial"], after["local_serial"]) == (first.svid.serial, second.svid.serial)
    assert (before["outcome"], before["bytes_in"]) == ("OK", 8)


async def test_a_peer_that_stalls_in_the_handshake_is_dropped_at_the_deadline() -> None:
    limits = Limits(handshake_timeout=0.1)
    async with an_app() as app, side_b(app.address, limits=limits) as b, connected(b.inbound) as streams:
        streams[1].write(b"\x16\x03\x01")
        line = await b.lines.next()
    assert (line["outcome"], line["verdict"]) == ("HANDSHAKE_TIMEOUT", "failed")
    assert line["detail"] == "the peer did not finish the handshake within 0.1 s"
    assert line["handshake_ms"] >= 100
    assert app.connections == 0


@pytest.mark.parametrize("version", [TlsMinimum.V1_3, TlsMinimum.V1_2])
@pytest.mark.parametrize(("share", "alert"), [(0, "UNEXPECTED_MESSAGE"), (2, ""), (1, "UNEXPECTED_MESSAGE")])
async def test_a_peer_that_stalls_reads_an_alert_and_the_end_and_no_reset(
    version: TlsMinimum, share: int, alert: str
) -> None:
    client = SlowClient(ssl.TLSVersion.TLSv1_3 if version is TlsMinimum.V1_3 else ssl.TLSVersion.TLSv1_2)
    said = client.hello[: len(client.hello) // share] if share else b""
    limits = Limits(handshake_timeout=0.1)
    async with (
        an_app() as app,
        side_b(app.address, limits=limits, tls_min=version) as b,
        connected(b.inbound) as streams,
    ):
        streams[1].write(said)
        received = await rest(streams)
        assert await b.lines.outcome() == "HANDSHAKE_TIMEOUT"
    assert f"ALERT_{alert}" in client.alert_in(received)


async def test_an_outbound_drops_a_server_that_stalls_in_the_handshake() -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        silent.setblocking(False)
        to = Address(*silent.getsockname())
        async with side_a(to, limits=Limits(handshake_timeout=0.1)) as a:
            async with connected(a.outbound) as streams:
                with pytest.raises(ConnectionResetError):
                    await rest(streams)
                accepted, _ = await asyncio.get_running_loop().sock_accept(silent)
                server = await asyncio.open_connection(sock=accepted)
                assert (await rest(server))[-4:].hex(" ") == "00 02 02 0a"
                server[1].close()
            assert await a.lines.outcome() == "HANDSHAKE_TIMEOUT"


NOBODY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: default}
spec: {}
"""
ANYBODY = NOBODY.replace("spec: {}", "spec: {rules: [{}]}")
HELLO = SlowClient(ssl.TLSVersion.TLSv1_3).hello
NO_BYTE = "the peer closed the connection before it sent a byte"
IN_TLS = "the peer closed the connection in the middle of TLS"


@pytest.mark.parametrize(
    ("said", "outcome", "detail"),
    [
        (b"", "CLOSED_EARLY", NO_BYTE),
        (HELLO[:1], "CLOSED_EARLY", IN_TLS),
        (HELLO[:3], "CLOSED_EARLY", IN_TLS),
        (HELLO, "CLOSED_EARLY", IN_TLS),
        (HELLO[:5] + bytes(len(HELLO) - 5), "HANDSHAKE_FAILED", "TLS failed: unexpected message"),
    ],
    ids=["nothing", "a byte", "three bytes", "a ClientHello", "no ClientHello"],
)
async def test_a_peer_that_leaves_in_the_handshake_without_an_alert_has_not_failed_it(
    said: bytes, outcome: str, detail: str
) -> None:
    async with an_app() as app, side_b(app.address, metrics=ANYWHERE) as b:
        async with connected(b.inbound) as streams:
            streams[1].write(said)
            streams[1].write_eof()  # to close over what it has not read would be a reset
            await rest(streams)
        line = await b.lines.next()
        assert b.sidecar.scrapes is not None
        found = await scraped(b.sidecar.scrapes.address)
        counted = value(found, "meshtls_connections_refused_total", outcome=outcome)
    assert (line["outcome"], line["verdict"], line["detail"]) == (outcome, "failed", detail)
    assert counted == 1
    assert app.connections == 0


@pytest.mark.parametrize("mode", [Mode.PERMISSIVE, Mode.DISABLE], ids=lambda one: one.value)
async def test_a_caller_in_plaintext_that_leaves_without_a_byte_is_denied_only_if_it_spoke(mode: Mode) -> None:
    limits = patient(detect_timeout=SECONDS)
    async with an_app() as app, governed(app.address, NOBODY, mode=mode, limits=limits) as b:
        for said, outcome in ((b"", "CLOSED_EARLY"), (b"ping", "POLICY_DENIED")):
            async with connected(b.inbound) as streams:
                streams[1].write(said)
            assert await b.lines.outcome() == outcome
    assert app.connections == 0


async def test_a_silent_caller_that_no_policy_allows_is_denied_where_there_is_no_tls() -> None:
    limits = patient(detect_timeout=0.05)
    async with (
        an_app() as app,
        governed(app.address, NOBODY, mode=Mode.DISABLE, limits=limits) as b,
        connected(b.inbound),
    ):
        assert await b.lines.outcome() == "POLICY_DENIED"
        assert app.connections == 0


class Counted:
    """Policies, and how many connections they were asked of."""

    def __init__(self, rules: WorkloadPolicies | None) -> None:
        self._rules = rules
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rules, name)

    def evaluate(self, request: Request, *, reads_http: bool) -> Decision:
        self.asked += 1
        assert self._rules is not None
        return self._rules.evaluate(request, reads_http=reads_http)


@pytest.mark.parametrize(
    ("policy", "said", "outcome", "judgements"),
    [(ANYBODY, b"ping", "OK", 2), (NOBODY, b"ping", "POLICY_DENIED", 2), (NOBODY, b"", "CLOSED_EARLY", 1)],
)
async def test_in_mode_disable_a_caller_is_judged_once_before_it_is_registered(
    policy: str, said: bytes, outcome: str, judgements: int
) -> None:
    limits = patient(detect_timeout=SECONDS)
    async with an_app() as app, governed(app.address, policy, mode=Mode.DISABLE, limits=limits) as b:
        gate = b.sidecar.listeners.inbound[0].gate
        counted = Counted(gate.rules)
        gate.rules = cast("WorkloadPolicies", counted)
        async with connected(b.inbound) as streams:
            streams[1].write(said)
            streams[1].write_eof()
            with contextlib.suppress(ConnectionError):
                await rest(streams)
        assert await b.lines.outcome() == outcome
    assert counted.asked == judgements


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
async def test_a_peer_that_resets_in_the_handshake_has_not_failed_it(said: bytes) -> None:
    async with an_app() as app, side_b(app.address) as b, connected(b.inbound) as streams:
        streams[1].write(said)
        await until(lambda: len(b.sidecar.registry) == 1)
        sock = streams[1].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        streams[1].transport.abort()
        line = await b.lines.next()
    assert line["outcome"] == "CLOSED_EARLY"
    assert line["detail"] == "the connection broke in the middle of the handshake: [Errno 104] Connection reset by peer"


@pytest.mark.parametrize("said", [b"", b"\x16"], ids=["no byte", "a byte"])
@pytest.mark.parametrize("policy", [NOBODY, ANYBODY], ids=["nobody is allowed", "anybody is"])
async def test_a_peer_that_resets_where_plaintext_may_come_is_no_error_of_the_sidecar(said: bytes, policy: str) -> None:
    limits = patient(detect_timeout=SECONDS)
    async with (
        an_app() as app,
        governed(app.address, policy, mode=Mode.PERMISSIVE, limits=limits) as b,
        connected(b.inbound) as streams,
    ):
        streams[1].write(said)
        await until(lambda: len(b.sidecar.registry) == 1)
        sock = streams[1].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        streams[1].transport.abort()
        line = await b.lines.next()
    reset = "the connection broke before the peer showed what it speaks: [Errno 104] Connection reset by peer"
    assert (line["outcome"], line["detail"]) == ("CLOSED_EARLY", reset)


@pytest.mark.parametrize("resets", [False, True])
async def test_a_server_that_leaves_in_the_handshake_has_failed_its_caller(resets: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        async with side_a(Address(*server.getsockname())) as a, connected(a.outbound) as streams:
            accepted, _ = await asyncio.get_running_loop().sock_accept(server)
            await asyncio.get_running_loop().sock_recv(accepted, 1 << 14)
            if resets:
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            with pytest.raises(ConnectionResetError):
                await rest(streams)
            line = await a.lines.next()
    reset = "the connection broke in the middle of the handshake: [Errno 104] Connection reset by peer"
    assert (line["outcome"], line["detail"]) == ("HANDSHAKE_FAILED", reset if resets else IN_TLS)


async def test_a_connection_on_which_nothing_moves_is_closed_at_the_idle_timeout() -> None:
    clock = LoopClock()
    async with (
        an_app() as app,
        side_b(app.address, limits=patient(idle_timeout=100)) as b,
        side_a(b.inbound) as a,
    ):
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            clock.put_forward(101)
            line = await b.lines.next()
            assert (line["outcome"], line["detail"]) == ("IDLE_TIMEOUT", "no byte moved for 100 s")
            with pytest.raises(ConnectionResetError):
                await rest(streams)
        assert await app.ended.get() == "reset"
        assert await a.lines.outcome() == "RESET"


async def test_bytes_in_one_direction_keep_both_from_being_idle() -> None:
    clock = LoopClock()
    async with (
        an_app() as app,
        side_b(app.address, limits=patient(idle_timeout=100)) as b,
        side_a(b.inbound) as a,
    ):
        async with connected(a.outbound) as streams:
            for _ in range(4):
                assert await echoed(streams) == b"ping"
                clock.put_forward(60)
            assert await echoed(streams) == b"ping"
        assert await b.lines.outcome() == "OK"


async def test_a_connection_above_the_limit_is_refused_and_admitted_after_another_ends() -> None:
    async with an_app() as app, side_b(app.address, limits=patient(connections=1)) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
            async with connected(a.outbound) as too_many:
                with pytest.raises(ConnectionResetError):
                    await echoed(too_many)
            line = await b.lines.next()
            assert (line["outcome"], line["verdict"]) == ("CONNECTION_LIMIT", "failed")
            assert line["detail"] == "connection limit reached (limits.connections=1)"
        assert await b.lines.outcome() == "OK"
        await b.sidecar.registry.emptied()
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
    assert app.connections == 2


async def test_an_app_that_is_down_is_a_failed_connect() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        app = Address(*taken.getsockname())
        async with side_b(app) as b, side_a(b.inbound) as a:
            async with connected(a.outbound) as streams:
                with pytest.raises(ConnectionResetError):
                    await echoed(streams)
            line = await b.lines.next()
    assert (line["outcome"], line["verdict"], line["source_id"]) == ("CONNECT_FAILED", "failed", str(A))
    assert line["detail"].startswith(f"{app} can't be reached: ")


@contextlib.contextmanager
def unanswering() -> Iterator[Address]:
    """A listener whose queue is full: the kernel answers no more of who connects."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield Address(*listener.getsockname())


async def test_an_app_that_does_not_answer_is_given_up_at_the_connect_timeout() -> None:
    limits = patient(connect_timeout=0.1)
    with unanswering() as app:
        async with side_b(app, limits=limits) as b, side_a(b.inbound) as a, connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
            line = await b.lines.next()
    assert (line["outcome"], line["detail"]) == ("CONNECT_FAILED", f"{app} did not answer within 0.1 s")


async def test_a_tls_1_2_handshake_is_finished_before_the_app_answers() -> None:
    options = TlsOptions(minimum_version=ssl.TLSVersion.TLSv1_2)
    with unanswering() as app:
        async with (
            side_b(app, tls_min=TlsMinimum.V1_2, limits=patient(connect_timeout=1)) as b,
            connected(b.inbound) as streams,
        ):
            context = context_of(as_a(), server_side=False, options=options)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            peer = RawPeer(TlsEngine(context), streams)
            await peer.shake()
            assert peer.engine.tls_version == "TLSv1.2"
            assert await b.lines.outcome() == "CONNECT_FAILED"


async def test_a_sidecar_that_does_not_answer_is_given_up_at_the_connect_timeout() -> None:
    with unanswering() as to:
        async with side_a(to, limits=patient(connect_timeout=0.1)) as a, connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
            line = await a.lines.next()
    assert (line["outcome"], line["detail"]) == ("CONNECT_FAILED", f"{to} did not answer within 0.1 s")


async def test_a_policy_change_closes_the_connection_that_it_forbids_and_no_other() -> None:
    as_other = context_for(OURS, OTHER)
    async with (
        an_app() as app,
        side_b(app.address, allow=(A, OTHER)) as b,
        side_a(b.inbound) as a,
        side_a(b.inbound, as_other) as other,
        connected(a.outbound) as streams,
        connected(other.outbound) as others,
    ):
        assert await echoed(streams) == await echoed(others) == b"ping"
        assert b.sidecar.set_allow(0, [OTHER]) == 1
        line = await b.lines.next()
        assert (line["outcome"], line["source_id"], line["bytes_in"]) == ("POLICY_DENIED", str(A), 4)
        assert line["detail"] == f"peer {A} is not allowed to reach {B}; allowed: {OTHER}"
        with pytest.raises(ConnectionResetError):
            await rest(streams)
        assert await echoed(others) == b"ping"


async def test_a_policy_change_between_handshake_and_registration_does_not_slip_through() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:
        b.sidecar.set_authorizer(0, allowed_until_the_handshake_is_done())
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        line = await b.lines.next()
        assert (line["outcome"], line["source_id"], line["detail"]) == ("POLICY_DENIED", str(A), "changed meanwhile")
    assert app.connections == 0


async def test_a_peer_that_is_refused_when_its_handshake_is_done_reads_an_alert_though_it_sends_on() -> None:
    async with an_app() as app, side_b(app.address) as b:
        async with a_raw_client(b.inbound) as peer:
            peer.send(b"ping")
            assert await peer.receive() == b"ping"
        await b.sidecar.registry.emptied()
        b.sidecar.set_authorizer(0, allowed_until_the_handshake_is_done())
        async with a_raw_client(b.inbound) as peer:
            for _ in range(16):
                peer.send(bytes(1 << 14))
            with pytest.raises(
                HandshakeError, match="^the peer refused the connection with the alert 'bad record mac'$"
            ):
                await peer.receive()
            assert await rest(peer.streams) == b""  # an end, and no reset
        assert (await b.lines.the("POLICY_DENIED"))["detail"] == "changed meanwhile"
        assert app.connections == 1


async def test_a_peer_without_a_slot_after_its_handshake_reads_an_alert() -> None:
    async with (
        an_app() as app,
        side_b(app.address, limits=patient(connections=1)) as b,
        connected(b.inbound) as streams,
    ):
        await until(lambda: len(b.sidecar.registry.unproven) == 1)
        async with a_raw_client(b.inbound) as first:
            first.send(b"ping")
            assert await first.receive() == b"ping"
            late = RawPeer(engine_of(as_a(), server_side=False), streams)
            await late.shake()
            for _ in range(16):
                late.send(bytes(1 << 14))
            with pytest.raises(
                HandshakeError, match="^the peer refused the connection with the alert 'bad record mac'$"
            ):
                await late.receive()
            assert await rest(late.streams) == b""  # an end, and no reset
            assert (await b.lines.next())["detail"] == "connection limit reached (limits.connections=1)"


def allowed_until_the_handshake_is_done() -> Authorizer:
    verdicts = iter([Decision(True, "allowed")])
    return lambda peer, target: next(verdicts, Decision(False, "changed meanwhile"))


async def test_the_authorizer_is_told_the_local_id_and_the_port_of_the_app() -> None:
    asked: set[Target] = set()

    def note(peer: VerifiedPeer, target: Target) -> Decision:
        asked.add(target)
        return Decision(True, "noted")

    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:
        b.sidecar.set_authorizer(0, note)
        async with connected(a.outbound) as streams:
            assert await echoed(streams) == b"ping"
        assert asked == {Target(B, app.address.port)}


async def test_drain_stops_accepting_and_waits_for_connections_to_end() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams, asyncio.TaskGroup() as group:
            assert await echoed(streams) == b"ping"
            draining = group.create_task(b.sidecar.drain())
            await refused(b.inbound)
            assert await echoed(streams) == b"ping"
            assert not draining.done()
            streams[1].write_eof()
            assert await rest(streams) == b""
        assert (await b.lines.the("OK"))["bytes_in"] == 8


async def refused(address: Address) -> None:
    """Return when the address takes no more connections."""
    async with asyncio.timeout(SECONDS):
        while True:
            try:
                async with connected(address):
                    await asyncio.sleep(0)
            except ConnectionResetError:
                continue  # it was waiting to be accepted at that moment
            except ConnectionRefusedError:
                return


async def test_drain_breaks_off_what_outlives_the_deadline() -> None:
    limits = patient(drain=0.05)
    async with (
        an_app() as app,
        side_b(app.address, limits=limits) as b,
        side_a(b.inbound) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"
        await b.sidecar.drain()
        line = await b.lines.next()
        assert line["outcome"] == "DRAINED"
        assert line["detail"] == "the sidecar is stopping, and 0.05 s were over"
        with pytest.raises(ConnectionResetError):
            await rest(streams)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_and_a_second_one_breaks_off(number: signal.Signals) -> None:
    async with an_app() as app, side_b(app.address, limits=patient(drain=60)) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams, asyncio.TaskGroup() as group:
            assert await echoed(streams) == b"ping"
            stopped = group.create_task(run_until_signal(b.sidecar))
            await asyncio.sleep(0)
            os.kill(os.getpid(), number)
            await refused(b.inbound)
            assert not stopped.done()
            os.kill(os.getpid(), number)
        line = await b.lines.the("DRAINED")
    assert line["detail"] == "the sidecar was told twice to stop"


async def test_health_says_live_at_once_and_ready_when_there_is_an_svid() -> None:
    class Source:
        context: X509Context | None = None

        def snapshot(self) -> X509Context:
            if self.context is None:
                raise LocalIdentityError("the CA was not reached yet")
            return self.context

    source = Source()
    config = SidecarConfig(
        name="b", spiffe_id=B, inbound=(InboundConfig(listen=ANYWHERE, app=ANYWHERE, allow=(A,)),), health=ANYWHERE
    )
    async with running(config, source) as b:
        assert await probe(b, "/live") == ("200 OK", "live\n")
        assert await probe(b, "/ready") == (
            "503 Service Unavailable",
            f"waiting for a valid SVID: the CA was not reached yet\nsidecar b ({B})\n",
        )
        assert repr(b.sidecar) == "<Sidecar b [serving, 1 listeners, 0 connections, no SVID]>"
        source.context = as_b()
        assert await probe(b, "/ready") == ("200 OK", f"ready\nsidecar b ({B})\n")
        assert await probe(b, "/else") == ("404 Not Found", "wanted /live or /ready\n")
        assert repr(b.sidecar) == "<Sidecar b [serving, 1 listeners, 0 connections, generation 1]>"
        await b.sidecar.drain()
        assert (await probe(b, "/ready"))[1] == f"not ready: draining\nsidecar b ({B})\n"
        assert await probe(b, "/live") == ("200 OK", "live\n")


async def test_silent_probes_give_way_to_one_that_sends_a_request() -> None:
    async with side_b(ANYWHERE) as b, contextlib.AsyncExitStack() as opened:
        assert b.sidecar.health is not None
        silent = [await opened.enter_async_context(connected(b.sidecar.health.address)) for _ in range(80)]
        assert await probe(b, "/live") == ("200 OK", "live\n")
        assert await rest(silent[0]) == b""


async def probe(node: Node, path: str) -> tuple[str, str]:
    assert node.sidecar.health is not None
    async with connected(node.sidecar.health.address) as streams:
        streams[1].write(f"GET {path} HTTP/1.1\r\nHost: probe\r\n\r\n".encode())
        head, _, text = (await rest(streams)).decode().partition("\r\n\r\n")
    return head.splitlines()[0].removeprefix("HTTP/1.1 "), text


async def test_an_address_that_is_taken_is_named_with_its_key() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname())
        doors = (
            InboundConfig(listen=ANYWHERE, app=ANYWHERE, mode=Mode.DISABLE),
            InboundConfig(listen=address, app=ANYWHERE, mode=Mode.DISABLE),
        )
        config = SidecarConfig(name="b", spiffe_id=B, inbound=doors)
        with pytest.raises(ConfigError) as raised:
            async with running(config, ConstantSource(as_b())):
                pass
    why = "Address already in use, by this process"
    assert str(raised.value) == f"b: inbound[1].listen: wanted to listen on {address}: {why}"
