"""Istio's semantics that only live connections show, through real sidecars. Each test is named by its item, and has a
twin that differs in one thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import pytest

from meshtls.address import Address
from meshtls.bundle import TrustBundle
from meshtls.cli.main import main
from meshtls.sidecar.config import load_config
from meshtls.sidecar.settings import SidecarConfig
from meshtls.svid.context import X509Context
from meshtls.svid.trust import NO_REVOCATIONS
from tests.integration.sidecar.governed import a_web_app
from tests.integration.sidecar.mesh import (
    FOREIGN,
    OURS,
    PARTNER,
    A,
    B,
    Node,
    Streams,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    running,
    side_a,
)
from tests.integration.sidecar.test_trust_changes import GUEST, Turning, ended, revoking
from tests.support.authority import context_for
from tests.support.waiting import SECONDS, until

#: Seconds that no test waits for.
NEVER = "1h"


def authentication(mode: str, more: str = "") -> str:
    return f"""
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: m, namespace: default}}
spec: {{selector: {{matchLabels: {{app: b}}}}, mtls: {{mode: {mode}}}{more}}}
"""


def authorization(*principals: str, action: str = "ALLOW", name: str = "p") -> str:
    """A policy for these principals, or for everybody."""
    wanted = f"{{from: [{{source: {{principals: [{', '.join(principals)}]}}}}]}}" if principals else "{}"
    return f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: default}}
spec: {{action: {action}, rules: [{wanted}]}}
"""


def written(directory: Path, app: Address, documents: str, *, detect: str = NEVER, more: str = "") -> SidecarConfig:
    """B's file with policies beside it, as its program reads it."""
    (directory / "policies.yaml").write_text(documents)
    file = directory / "b.yaml"
    file.write_text(
        f"""
name: b
spiffe_id: {B}
labels: {{app: b}}
policies: [policies.yaml]
inbound: [{{listen: "127.0.0.1:0", app: "{app}"{more}}}]
limits: {{detect_timeout: {detect}, handshake_timeout: 60s, connect_timeout: 60s}}
"""
    )
    return load_config(file)


STRICT = authentication("STRICT")
NAME_OF_A = "example.org/ns/default/sa/service-a"


# -- item 5: what each mode does with TLS and with plaintext --


class Opening(Enum):
    """What a client sends first."""

    MUTUAL = "mutual TLS of the mesh"
    NO_CERTIFICATE = "the mesh's TLS without a certificate"
    FOREIGN = "TLS of a client of the app's own, which names a server"
    PLAINTEXT = "plaintext"


class Fate(Enum):
    """What becomes of it."""

    VERIFIED = "its TLS ends at the sidecar, and its identity is known"
    UNTOUCHED = "its bytes reach the app as they are, and no identity is known"
    REFUSED = "no byte reaches the app"


MODES: dict[str, tuple[str, Opening, Fate]] = {
    "item 5: STRICT takes TLS with a client certificate": ("STRICT", Opening.MUTUAL, Fate.VERIFIED),
    "item 5: STRICT refuses TLS without one": ("STRICT", Opening.NO_CERTIFICATE, Fate.REFUSED),
    "item 5: STRICT refuses TLS that is not the mesh's": ("STRICT", Opening.FOREIGN, Fate.REFUSED),
    "item 5: STRICT refuses plaintext": ("STRICT", Opening.PLAINTEXT, Fate.REFUSED),
    "item 5: DISABLE takes plaintext": ("DISABLE", Opening.PLAINTEXT, Fate.UNTOUCHED),
    "item 5: DISABLE ends no TLS, not even the mesh's": ("DISABLE", Opening.MUTUAL, Fate.UNTOUCHED),
    "item 5: DISABLE ends no TLS of others": ("DISABLE", Opening.FOREIGN, Fate.UNTOUCHED),
    "item 5: PERMISSIVE ends the mesh's TLS": ("PERMISSIVE", Opening.MUTUAL, Fate.VERIFIED),
    "item 5: PERMISSIVE wants a certificate in the mesh's TLS": (
        "PERMISSIVE",
        Opening.NO_CERTIFICATE,
        Fate.REFUSED,
    ),
    "item 5: PERMISSIVE passes on TLS that is not the mesh's": ("PERMISSIVE", Opening.FOREIGN, Fate.UNTOUCHED),
    "item 5: PERMISSIVE passes on plaintext": ("PERMISSIVE", Opening.PLAINTEXT, Fate.UNTOUCHED),
}


def client_hello(server_name: str | None) -> bytes:
    """The first bytes of a client of Python's own TLS."""
    outgoing = ssl.MemoryBIO()
    tls = unverifying().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def unverifying() -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE  # who the server is, is not what these tests ask
    return tls


async def outcome_of(opening: Opening, b: Node) -> bytes:
    """What comes back of what was sent, nothing if the connection is refused."""
    if opening is Opening.MUTUAL and b.sidecar.config.inbound[0].mode.value != "DISABLE":
        async with side_a(b.inbound) as a, connected(a.outbound) as streams:
            return await echoed(streams)
    if opening is Opening.NO_CERTIFICATE:
        with contextlib.suppress(OSError):
            async with connected(b.inbound, unverifying()) as streams:
                return await echoed(streams)
        return b""
    sent = {
        Opening.MUTUAL: client_hello(None),
        Opening.FOREIGN: client_hello("app.test"),
        Opening.PLAINTEXT: b"ping",
    }[opening]
    async with connected(b.inbound) as streams:
        with contextlib.suppress(OSError):
            return b"ping" if await echoed(streams, sent) == sent else b""
    return b""


@pytest.mark.parametrize("name", MODES)
async def test_the_mode_says_what_becomes_of_a_connection(tmp_path: Path, name: str) -> None:
    mode, opening, fate = MODES[name]
    async with an_app() as app:
        config = written(tmp_path, app.address, authentication(mode) + authorization())
        async with running(config, Turning(as_b())) as b:
            came_back = await outcome_of(opening, b)
            line = await b.lines.next()
    refused = fate is Fate.REFUSED
    assert came_back == (b"" if refused else b"ping")
    assert (app.connections, app.received > 0) == (not refused, not refused)
    assert (line["verdict"] == "allowed", line["source_id"]) == (not refused, str(A) if fate is Fate.VERIFIED else None)


@pytest.mark.parametrize("mode", ["PERMISSIVE", "DISABLE"])
async def test_item_5_tls_that_passes_untouched_is_judged_as_plaintext(tmp_path: Path, mode: str) -> None:
    hello = client_hello("app.test")
    for text, passes in ((authorization(), True), (authorization(NAME_OF_A), False)):
        async with an_app() as app:
            config = written(tmp_path, app.address, authentication(mode) + text)
            async with running(config, Turning(as_b())) as b, connected(b.inbound) as streams:
                with contextlib.suppress(OSError):
                    assert await echoed(streams, hello) == (hello if passes else b"")
                streams[1].close()
                assert (await b.lines.next())["outcome"] == ("OK" if passes else "POLICY_DENIED")
            assert app.connections == passes


@pytest.mark.parametrize(("protocol", "passes"), [("tcp", True), ("auto", True), ("http", False)])
async def test_item_5_explain_and_the_sidecar_agree_on_tls_to_a_disable_port(
    tmp_path: Path, protocol: str, passes: bool
) -> None:
    hello = client_hello(None)
    async with an_app() as app:
        config = written(
            tmp_path, app.address, authentication("DISABLE") + authorization(), more=f", protocol: {protocol}"
        )
        async with running(config, Turning(as_b())) as b, connected(b.inbound) as streams:
            came_back = await echoed(streams, hello)
            assert came_back == hello if passes else came_back.startswith(b"HTTP/1.1 400 ")
    assert (app.connections, app.received) == ((1, len(hello)) if passes else (0, 0))
    with pytest.raises(SystemExit) as ended:
        main(["policy", "explain", "--config", str(tmp_path / "b.yaml"), "--from", str(A), "--method", "GET"])
    assert ended.value.code == (0 if passes else 1)


# -- item 6: detection does not hold up a server that speaks first --

GREETING = b"220 ready\r\n"


async def greeted(streams: Streams) -> bytes:
    async with asyncio.timeout(SECONDS):
        return await streams[0].readline()


async def test_item_6_the_wait_for_a_silent_client_is_bounded(tmp_path: Path) -> None:
    async with an_app(GREETING) as app:
        config = written(tmp_path, app.address, authentication("PERMISSIVE") + authorization(), detect="50ms")
        async with running(config, Turning(as_b())) as b, connected(b.inbound) as streams:
            assert await greeted(streams) == GREETING
            assert await echoed(streams) == b"ping"


async def test_item_6_the_app_is_not_dialled_before_the_bound(tmp_path: Path) -> None:
    async with an_app(GREETING) as app:
        config = written(tmp_path, app.address, authentication("PERMISSIVE") + authorization())
        async with running(config, Turning(as_b())) as b, connected(b.inbound) as streams:
            await until(lambda: len(b.sidecar.registry) == 1)
            assert app.connections == 0
            streams[1].write(b"ping")
            assert await greeted(streams) == GREETING
            assert await streams[0].readexactly(4) == b"ping"


async def test_item_6_an_opaque_port_waits_for_no_first_bytes(tmp_path: Path) -> None:
    """The bound is an hour here: only a port where nothing is looked for is quick."""
    async with an_app(GREETING) as app:
        opaque = authentication("PERMISSIVE", f', portLevelMtls: {{"{app.address.port}": {{mode: DISABLE}}}}')
        config = written(tmp_path, app.address, opaque + authorization())
        async with running(config, Turning(as_b())) as b, connected(b.inbound) as streams:
            assert await greeted(streams) == GREETING


@pytest.mark.parametrize(("protocol", "detect"), [("tcp", NEVER), ("auto", "50ms")])
async def test_item_6_an_app_that_speaks_first_is_heard_within_tls_on_tcp_and_auto(
    tmp_path: Path, protocol: str, detect: str
) -> None:
    """``auto`` waits for the first bytes of HTTP, and not for long; ``tcp`` is the setting by which it does not."""
    async with an_app(GREETING) as app:
        documents = authentication("STRICT") + authorization()
        config = written(tmp_path, app.address, documents, detect=detect, more=f", protocol: {protocol}")
        async with (
            running(config, Turning(as_b())) as b,
            side_a(b.inbound) as a,
            connected(a.outbound) as streams,
        ):
            assert await greeted(streams) == GREETING


# -- item 23: the words of a denial --


@pytest.mark.parametrize("tunnel", [False, True], ids=["plain TLS", "tunnel"])
@pytest.mark.parametrize(
    ("documents", "policy", "rule", "clause"),
    [
        (
            authorization() + authorization(NAME_OF_A, action="DENY", name="q"),
            "ns[default]-policy[q]",
            "0",
            f"source.principals: wanted {NAME_OF_A}, got {NAME_OF_A}",
        ),
        (
            authorization("example.org/other"),
            None,
            None,
            f"source.principals: wanted example.org/other, got {NAME_OF_A}",
        ),
        (authorization(), "ns[default]-policy[p]", "0", None),
    ],
    ids=["a DENY rule", "the nearest ALLOW rule", "an ALLOW rule"],
)
async def test_item_23_the_access_log_of_a_connection_names_policy_rule_and_clause(
    tmp_path: Path, documents: str, policy: str | None, rule: str | None, clause: str | None, tunnel: bool
) -> None:
    async with an_app() as app:
        config = written(tmp_path, app.address, STRICT + documents, more=f", tunnel: {str(tunnel).lower()}")
        async with (
            running(config, Turning(as_b())) as b,
            side_a(b.inbound, tunnel=tunnel) as a,
            connected(a.outbound) as streams,
        ):
            with contextlib.suppress(OSError):
                assert await echoed(streams) == (b"" if clause else b"ping")
            streams[1].close()
            line = await b.lines.next()
    assert (line.get("policy"), line.get("rule"), line.get("clause")) == (policy, rule, clause)


# -- item 24: a change is checked against live connections, too --

BOTH = (NAME_OF_A, "partner.test/guest")


class Change(NamedTuple):
    """What ends A's connection and not the partner's, with the outcome and the beginning of the reason."""

    outcome: str
    reason: str
    policy: str = STRICT + authorization(*BOTH)
    roots: tuple[TrustBundle, ...] = (OURS.bundle, PARTNER.bundle)
    revokes: bool = False


CHANGES: dict[str, Change] = {
    "item 24: a policy": Change(
        "POLICY_DENIED",
        f"denied: no ALLOW rule matches. The peer is {NAME_OF_A}, on port ",
        policy=STRICT + authorization(BOTH[1]),
    ),
    "item 24: trust": Change(
        "PEER_UNTRUSTED",
        f"peer {A}: no path to a root of the bundle of trust domain example.org",
        roots=(FOREIGN.bundle, PARTNER.bundle),
    ),
    "item 24: a revocation": Change("PEER_REVOKED", f"peer {A}: certificate ", revokes=True),
}


def make(change: Change, b: Node, source: Turning, of_a: X509Context, config: Callable[[str], SidecarConfig]) -> None:
    """Put it into force, each of the three by its own way."""
    if change.outcome == "POLICY_DENIED":
        b.sidecar.reload(config(change.policy))
    else:
        source.turn(*change.roots, revoked=revoking(of_a.svid, leaf=True) if change.revokes else NO_REVOCATIONS)


@pytest.mark.parametrize("tunnel", [False, True], ids=["plain TLS", "tunnel"])
@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_ends_live_connections_that_it_forbids_and_no_others(
    tmp_path: Path, name: str, tunnel: bool
) -> None:
    change, source, of_a = CHANGES[name], Turning(as_b()), as_a()
    guest = context_for(PARTNER, GUEST, federated=[OURS.bundle])
    async with an_app() as app:

        def config(documents: str) -> SidecarConfig:
            return written(tmp_path, app.address, documents, more=f", tunnel: {str(tunnel).lower()}")

        async with (
            running(config(STRICT + authorization(*BOTH)), source) as b,
            side_a(b.inbound, of_a, tunnel=tunnel) as a,
            side_a(b.inbound, guest, tunnel=tunnel) as partner,
            connected(a.outbound) as forbidden,
            connected(partner.outbound) as allowed,
        ):
            assert await echoed(forbidden) == await echoed(allowed) == b"ping"
            make(change, b, source, of_a, config)
            line = await b.lines.the(change.outcome)
            assert (line["source_id"], line["detail"][: len(change.reason)]) == (str(A), change.reason)
            assert await ended(forbidden) == b""
            assert await echoed(allowed) == b"ping"
            # Nor does it get in again.
            async with connected(a.outbound) as again:
                with contextlib.suppress(OSError):
                    assert await echoed(again) == b""


@pytest.mark.parametrize("name", CHANGES)
async def test_a_change_reaches_live_connections_of_http(tmp_path: Path, name: str) -> None:
    """A policy answers the next request with 403 on the same connection. Without trust there is no connection."""
    change, source, of_a = CHANGES[name], Turning(as_b()), as_a()
    guest = context_for(PARTNER, GUEST, federated=[OURS.bundle])
    async with a_web_app() as app:

        def config(documents: str) -> SidecarConfig:
            return written(tmp_path, app.address, documents, more=", protocol: http")

        async with (
            running(config(STRICT + authorization(*BOTH)), source) as b,
            side_a(b.inbound, of_a) as a,
            side_a(b.inbound, guest) as partner,
            connected(a.outbound) as forbidden,
            connected(partner.outbound) as allowed,
        ):
            assert await status(forbidden) == await status(allowed) == 200
            make(change, b, source, of_a, config)
            if change.outcome == "POLICY_DENIED":
                assert await status(forbidden) == 403
            else:
                line = await b.lines.the(change.outcome)
                assert (line["source_id"], line["detail"][: len(change.reason)]) == (str(A), change.reason)
                assert await ended(forbidden) == b""
            assert await status(allowed) == 200
        assert len(app.seen) == 3


async def status(streams: Streams) -> int:
    """The status of the answer to one more request."""
    reader, writer = streams
    writer.write(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n")
    async with asyncio.timeout(SECONDS):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    return int(head.split()[1])
