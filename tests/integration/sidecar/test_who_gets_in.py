"""Which peers reach the app through two sidecars, and what each side's log says of those that don't."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.sidecar.settings import InboundConfig, Mode, SidecarConfig, TlsMinimum
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.context import TlsOptions
from tests.integration.sidecar.mesh import (
    ANYWHERE,
    DEFAULTS,
    FOREIGN,
    OTHER,
    OURS,
    PARTNER,
    A,
    B,
    an_app,
    as_a,
    as_b,
    connected,
    echoed,
    rest,
    running,
    side_a,
    side_b,
)
from tests.support.authority import Leaf, context_for, mint_raw, svid_for
from tests.support.tls import context_of

GOOD = Leaf(uris=(str(A),))
TLS12 = TlsOptions(minimum_version=ssl.TLSVersion.TLSv1_2)


def presenting(leaf: Leaf, authority: Authority = OURS) -> X509Context:
    return X509Context(1, (mint_raw(authority, leaf),), BundleSet([OURS.bundle]))


@dataclass(frozen=True)
class Refused:
    """One caller that B refuses: the outcome and words in B's line, and the alert that A hears.

    ``to_caller``: the words in A's line if it is a server that A refuses, where they differ.
    """

    caller: Callable[[], X509Context]
    outcome: str
    words: str
    alert: str = "unknown ca"
    to_caller: str = ""
    source_id: str | None = None


REFUSED = {
    "an ID that is not on the list": Refused(
        lambda: context_for(OURS, OTHER),
        "POLICY_DENIED",
        f"peer {OTHER} is not allowed to reach {B}; allowed: {A}",
        source_id=str(OTHER),
        to_caller=f"the server is {OTHER}; expected: {A}",
    ),
    "a partner's ID that is not on the list": Refused(
        lambda: X509Context(1, (svid_for(PARTNER, "/ns/default/sa/service-a"),), BundleSet([OURS.bundle])),
        "POLICY_DENIED",
        "peer spiffe://partner.test/ns/default/sa/service-a is not allowed",
        to_caller=f"the server is spiffe://partner.test/ns/default/sa/service-a; expected: {A}",
        source_id="spiffe://partner.test/ns/default/sa/service-a",
    ),
    "expired": Refused(
        lambda: presenting(replace(GOOD, starts_in=-60, ends_in=-30)),
        "PEER_CERT_NOT_CURRENT",
        "expired at",
        "certificate expired",
    ),
    "not yet valid": Refused(
        lambda: presenting(replace(GOOD, starts_in=60)),
        "PEER_CERT_NOT_CURRENT",
        "is not valid before",
        "bad certificate",
    ),
    "a foreign CA's, with an ID that is on the list": Refused(
        lambda: presenting(GOOD, FOREIGN),
        "PEER_UNTRUSTED",
        "no path to a root of the bundle of trust domain example.org",
    ),
    "a trusted partner's CA minting an ID of ours": Refused(
        lambda: presenting(GOOD, PARTNER),
        "PEER_UNTRUSTED",
        "no path to a root of the bundle of trust domain example.org",
    ),
    "a trust domain without a bundle": Refused(
        lambda: presenting(replace(GOOD, uris=("spiffe://stranger.test/a",))),
        "NO_BUNDLE",
        "no bundle for trust domain stranger.test",
    ),
    "two URI SANs": Refused(
        lambda: presenting(replace(GOOD, uris=(str(A), str(OTHER)))),
        "PEER_CERT_INVALID",
        "wanted exactly one URI SAN, got 2",
    ),
    "a CA certificate as the leaf": Refused(
        lambda: presenting(replace(GOOD, ca=True)),
        "PEER_CERT_INVALID",
        "a CA certificate can't authenticate a workload",
    ),
}


async def test_the_allowed_peer_reaches_the_app_and_both_log_lines_name_both_ids() -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound) as a:
        async with connected(a.outbound) as streams:
            assert await echoed(streams, b"hello") == b"hello"
            streams[1].write_eof()
            assert await rest(streams) == b""
        at_a, at_b = await a.lines.next(), await b.lines.next()
    for line in (at_a, at_b):
        assert (line["outcome"], line["verdict"]) == ("OK", "allowed")
        assert (line["source_id"], line["destination_id"]) == (str(A), str(B))
        assert (line["bytes_in"], line["bytes_out"]) == (5, 5)
        assert (line["tls_version"], line["cipher_suite"]) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
        assert line["generation"] == 1
        assert line["handshake_ms"] > 0
        assert line["total_ms"] >= line["handshake_ms"] + line["connect_ms"]
    assert (at_a["direction"], at_b["direction"]) == ("outbound", "inbound")
    assert (at_a["local_serial"], at_a["peer_serial"]) == (at_b["peer_serial"], at_b["local_serial"])


async def test_a_raw_leaf_that_keeps_every_rule_gets_in() -> None:
    async with (
        an_app() as app,
        side_b(app.address) as b,
        side_a(b.inbound, presenting(GOOD)) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
async def test_a_refused_caller_reads_an_alert_and_the_app_gets_no_connection(case: Refused) -> None:
    async with an_app() as app, side_b(app.address) as b, side_a(b.inbound, case.caller()) as a:
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        at_a, at_b = await a.lines.next(), await b.lines.next()
    assert (at_b["outcome"], at_b["verdict"]) == (case.outcome, "denied")
    assert case.words in at_b["detail"]
    assert at_b["source_id"] == case.source_id
    assert at_a["outcome"] == "HANDSHAKE_FAILED"
    assert at_a["detail"] == f"the peer refused the connection with the alert {case.alert!r}"
    assert app.connections == 0


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
async def test_an_outbound_refuses_an_unacceptable_server_and_sends_it_nothing(case: Refused) -> None:
    impostor = case.caller()
    caller = context_for(OURS, B, federated=[PARTNER.bundle])
    async with (
        an_app() as app,
        side_b(app.address, allow=(B,), source=ConstantSource(impostor)) as server,
        side_a(server.inbound, caller, peer=A) as a,
    ):
        async with connected(a.outbound) as streams:
            with pytest.raises(ConnectionResetError):
                await echoed(streams)
        at_a, at_server = await a.lines.next(), await server.lines.next()
    assert (at_a["outcome"], at_a["destination_id"]) == (case.outcome, case.source_id)
    assert (case.to_caller or case.words) in at_a["detail"]
    assert at_server["detail"] == f"the peer refused the connection with the alert {case.alert!r}"
    assert app.connections == 0


async def test_the_server_that_an_outbound_wants_is_accepted() -> None:
    caller = context_for(OURS, B, federated=[PARTNER.bundle])
    async with (
        an_app() as app,
        side_b(app.address, allow=(B,), source=ConstantSource(presenting(GOOD))) as server,
        side_a(server.inbound, caller, peer=A) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"


def bare() -> ssl.SSLContext:
    """A client that trusts our servers and has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=OURS.bundle.to_der())
    return context


@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE])
async def test_a_tls_client_without_a_certificate_is_refused_with_the_alert_for_that(mode: Mode) -> None:
    async with an_app() as app, side_b(app.address, mode=mode) as b:
        async with connected(b.inbound, bare()) as streams:
            with pytest.raises(ssl.SSLError, match="certificate required"):
                await echoed(streams)
        line = await b.lines.next()
    assert (line["outcome"], line["source_id"]) == ("NO_CLIENT_CERTIFICATE", None)
    assert app.connections == 0


@pytest.mark.parametrize("mode", [Mode.STRICT, Mode.PERMISSIVE])
async def test_a_stock_tls_client_with_an_svid_gets_in(mode: Mode) -> None:
    async with an_app() as app, side_b(app.address, mode=mode) as b, connected(b.inbound, with_svid()) as streams:
        assert await echoed(streams) == b"ping"
    assert app.connections == 1


def with_svid(options: TlsOptions = TlsOptions()) -> ssl.SSLContext:
    return context_of(as_a(), server_side=False, options=options)


def tls12_only() -> ssl.SSLContext:
    context = with_svid(TLS12)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


async def test_a_tls_1_2_peer_is_refused_by_default() -> None:
    async with an_app() as app, side_b(app.address) as b:
        with pytest.raises(ssl.SSLError, match="protocol version"):
            async with connected(b.inbound, tls12_only()):
                pass
        line = await b.lines.next()
    assert (line["outcome"], line["verdict"]) == ("HANDSHAKE_FAILED", "failed")
    assert line["detail"] == "no TLS version in common with the peer (unsupported protocol)"


async def test_a_tls_1_2_peer_is_accepted_where_the_option_says_so() -> None:
    async with an_app() as app, side_b(app.address, tls_min=TlsMinimum.V1_2) as b:
        async with connected(b.inbound, tls12_only()) as streams:
            assert await echoed(streams) == b"ping"
        line = await b.lines.next()
    assert line["tls_version"] == "TLSv1.2"
    assert line["cipher_suite"].startswith("ECDHE-ECDSA-")


async def test_a_sidecar_whose_source_has_another_identity_refuses_every_peer_with_an_alert() -> None:
    door = InboundConfig(listen=ANYWHERE, app=ANYWHERE, allow=(A,))
    config = SidecarConfig(name="b", spiffe_id=OTHER, inbound=(door,), limits=DEFAULTS)
    async with running(config, ConstantSource(as_b())) as b:
        with pytest.raises(ssl.SSLError, match="alert internal error"):
            async with connected(b.inbound, with_svid()):
                pass
        line = await b.lines.next()
    assert (line["outcome"], line["local_serial"]) == ("LOCAL_IDENTITY", None)
    assert line["detail"].startswith(f"wanted an SVID of {OTHER}, got one of {B};")
