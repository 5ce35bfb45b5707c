"""Certificates that are given with a handshake: each is really presented to a real server, which decides."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.clock import SystemClock
from tests.integration.node.harness import Body, LocalNode, local_node
from tests.support.authority import Leaf, csr_for, make_authority, mint_raw, svid_for
from tests.support.clock import ManualClock

HANDSHAKE = {"type": "handshake", "msg_id": 1, "client": "service-a", "server": "service-b"}
A, B = "spiffe://example.com/service-a", "spiffe://example.com/service-b"


async def issue(node: LocalNode, **fields: object) -> str:
    reply = await node.ask({"type": "issue_certificate", "msg_id": 9, "service": "service-a", **fields})
    certificate: str = reply["certificate"]
    return certificate


async def test_a_certificate_of_the_node_is_presented_and_accepted() -> None:
    async with local_node(SystemClock()) as node:
        certificate = await issue(node)

        assert (await node.ask({**HANDSHAKE, "cert": certificate}))["type"] == "handshake_complete"


async def test_an_expired_certificate_of_the_node_is_presented_and_refused() -> None:
    clock = ManualClock()
    async with local_node(clock) as node:
        certificate = await issue(node, ttl=60)
        assert (await node.ask({**HANDSHAKE, "cert": certificate}))["success"] is True
        clock.advance(61)

        refused(
            await node.ask({**HANDSHAKE, "cert": certificate}),
            f"`cert` was presented, issued here to {A}: peer {A}: its certificate",
            "expired at",
        )


async def test_the_certificate_of_another_service_is_refused() -> None:
    async with local_node(SystemClock()) as node:
        certificate = await issue(node, service="service-c")

        refused(
            await node.ask({**HANDSHAKE, "cert": certificate}),
            "`cert` was presented, issued here to spiffe://example.com/service-c: peer spiffe://example.com/service-c",
            f"is not allowed to reach spiffe://example.com/service-b; allowed: {A}",
        )


async def test_the_certificate_of_another_service_is_refused_where_a_policy_allows_both() -> None:
    async with local_node(SystemClock()) as node:
        await node.ask({"type": "policy", "msg_id": 8, "server": "service-b", "allow": ["service-a", "service-c"]})
        certificate = await issue(node, service="service-c")

        refused(await node.ask({**HANDSHAKE, "cert": certificate}), "issued here to spiffe://example.com/service-c")
        assert (await node.ask({**HANDSHAKE, "client": "service-c", "cert": certificate}))["success"] is True


async def test_the_certificate_of_another_trust_domain_is_refused() -> None:
    async with local_node(SystemClock()) as node:
        certificate = await issue(node, trust_domain="other.test")

        refused(
            await node.ask({**HANDSHAKE, "cert": certificate}),
            "peer spiffe://other.test/service-a: no bundle for trust domain other.test; known: example.com",
        )


async def test_a_certificate_whose_key_stayed_with_its_requester_is_refused() -> None:
    csr = csr_for(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM).decode()
    async with local_node(SystemClock()) as node:
        certificate = await issue(node, csr=csr)

        refused(
            await node.ask({**HANDSHAKE, "cert": certificate}),
            "the node has no key for `cert`, so a copy signed by a throw-away CA was presented",
        )


async def test_a_rotation_replaces_the_last_presented_svid() -> None:
    clock = ManualClock()
    async with local_node(clock) as node:
        await issue(node, ttl=16)
        presented = (await node.ask(HANDSHAKE))["client_serial"]
        clock.advance(9)  # to OpenSSL, whose clock stays, a certificate that is made now has begun a second ago

        rotated = await node.ask({"type": "rotate", "msg_id": 2, "service": "service-a"})

        assert rotated["old_serial"] == presented
        assert (await node.ask(HANDSHAKE))["client_serial"] == rotated["new_serial"]


FOREIGN = make_authority("example.com")


def foreign(leaf: Leaf) -> str:
    return mint_raw(FOREIGN, leaf).chain_pem().decode()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: "", "`cert` is not a PEM certificate"),
        (
            lambda: "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
            "`cert` is not a PEM certificate",
        ),
        (lambda: foreign(Leaf((A,))), f"peer {A}: no path to a root of the bundle of trust domain example.com"),
        (lambda: foreign(Leaf((A,), ends_in=-5)), "none of them is its issuer; and its certificate"),
        (lambda: foreign(Leaf((A, A))), "wanted exactly one URI SAN, got 2"),
        (lambda: foreign(Leaf((A,), ca=True)), "a CA certificate can't authenticate a workload"),
        (lambda: foreign(Leaf(())), "wanted exactly one URI SAN, got 0"),
        (lambda: FOREIGN.bundle.to_pem().decode(), "a CA certificate can't authenticate a workload"),
        (
            lambda: svid_for(make_authority("evil.test"), "/service-a").chain_pem().decode(),
            "no bundle for trust domain evil.test",
        ),
    ],
)
async def test_a_foreign_certificate_is_refused_in_the_verifiers_words(make: Callable[[], str], words: str) -> None:
    async with local_node(SystemClock()) as node:
        refused(await node.ask({**HANDSHAKE, "cert": make()}), words)
        assert (await node.ask(HANDSHAKE))["success"] is True


@pytest.mark.parametrize("octets", [1_000, 120_000, 700_000])
async def test_a_foreign_certificate_is_refused_as_such_also_where_it_is_too_large_for_tls(octets: int) -> None:
    async with local_node(SystemClock()) as node:
        words = "no path to a root" if octets < 2_000 else "the peer's part of the handshake has more than"
        refused(await node.ask({**HANDSHAKE, "cert": with_extension(octets)}), words)


def with_extension(octets: int) -> str:
    foreign_svid = mint_raw(FOREIGN, Leaf((A,)))
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), bytes(octets))
    leaf = builder_like(foreign_svid.leaf).add_extension(extension, critical=False)
    return leaf.sign(FOREIGN.intermediate.private_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def builder_like(leaf: x509.Certificate) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(leaf.subject)
        .issuer_name(leaf.issuer)
        .serial_number(leaf.serial_number)
        .not_valid_before(leaf.not_valid_before_utc)
        .not_valid_after(leaf.not_valid_after_utc)
        .public_key(ec.generate_private_key(ec.SECP256R1()).public_key())
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder


async def test_the_first_certificate_of_several_is_the_one_that_counts() -> None:
    async with local_node(SystemClock()) as node:
        strange, own = foreign(Leaf((A,))), await issue(node)

        refused(await node.ask({**HANDSHAKE, "cert": strange + own}), f"peer {A}: no path to a root")
        assert (await node.ask({**HANDSHAKE, "cert": own + strange}))["success"] is True


async def test_a_server_presents_a_certificate_of_the_node_and_is_accepted() -> None:
    async with local_node(SystemClock()) as node:
        certificate = await issue(node, service="service-b")

        assert (await node.ask({**HANDSHAKE, "server_cert": certificate}))["type"] == "handshake_complete"


async def test_an_expired_certificate_of_the_server_is_refused_by_the_client() -> None:
    clock = ManualClock()
    async with local_node(clock) as node:
        certificate = await issue(node, service="service-b", ttl=60)
        assert (await node.ask({**HANDSHAKE, "server_cert": certificate}))["success"] is True
        clock.advance(61)

        refused(
            await node.ask({**HANDSHAKE, "server_cert": certificate}),
            f"`server_cert` was presented, issued here to {B}: peer {B}: its certificate",
            "expired at",
            party="server",
        )


async def test_the_certificate_of_another_service_is_refused_at_the_server_too() -> None:
    async with local_node(SystemClock()) as node:
        certificate = await issue(node, service="service-c")

        refused(
            await node.ask({**HANDSHAKE, "server_cert": certificate}),
            "`server_cert` was presented, issued here to spiffe://example.com/service-c: the server is",
            "spiffe://example.com/service-c; expected: ",
            party="server",
        )


@pytest.mark.parametrize(
    ("certificates", "party"),
    [
        ({"cert": "invalid-cert"}, "client"),
        ({"server_cert": "invalid-cert"}, "server"),
        # The client verifies first, and then presents nothing.
        ({"cert": "invalid-cert", "server_cert": "invalid-cert"}, "server"),
    ],
)
async def test_a_refusal_names_the_party_whose_certificate_was_refused(certificates: Body, party: str) -> None:
    field = "cert" if party == "client" else "server_cert"
    async with local_node(SystemClock()) as node:
        refused(
            await node.ask({**HANDSHAKE, **certificates}),
            f"`{field}` is not a PEM certificate, so one of a throw-away CA was presented: peer"
            f" {A if party == 'client' else B}: no path to a root of the bundle of trust domain example.com",
            party=party,
        )


def refused(reply: Body, *words: str, party: str = "client") -> None:
    assert list(reply) == ["type", "in_reply_to", "reason", "success", "detail", "refused"]
    assert reply["refused"] == party
    assert (reply["type"], reply["reason"], reply["success"]) == ("handshake_failed", "Invalid certificate", False)
    for part in words:
        assert part in reply["detail"]
