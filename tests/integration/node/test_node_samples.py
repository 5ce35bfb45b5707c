"""The samples of the task, and what a person reads in each reply."""

import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.svid.x509 import format_serial, spiffe_id_of
from tests.integration.node.harness import ask, lines_of, pipe
from tests.support.authority import csr_for

HANDSHAKE = {"type": "handshake", "msg_id": 1, "client": "service-a", "server": "service-b"}


def test_a_handshake_completes_as_in_the_sample() -> None:
    [reply] = pipe(lines_of([{"src": "sidecar-a", "dest": "sidecar-b", "body": HANDSHAKE}]))

    assert list(reply.items())[:4] == [
        ("type", "handshake_complete"),
        ("in_reply_to", 1),
        ("success", True),
        ("cipher_suite", "TLS_AES_256_GCM_SHA384"),
    ]
    assert list(reply)[4:] == ["client_serial", "server_serial"]
    assert all(re.fullmatch("[0-9a-f]+", reply[name]) for name in ("client_serial", "server_serial"))


def test_the_cipher_suite_is_the_one_that_was_negotiated(tmp_path: Path) -> None:
    # Python's ssl can't choose among TLS 1.3's suites yet; OpenSSL's own configuration can.
    settings = tmp_path / "openssl.cnf"
    settings.write_text(
        "openssl_conf = all\n[all]\nssl_conf = ssl\n[ssl]\nsystem_default = tls\n"
        "[tls]\nCiphersuites = TLS_AES_128_GCM_SHA256\n"
    )

    [reply] = pipe(lines_of([HANDSHAKE]), environment={"OPENSSL_CONF": str(settings)})

    assert (reply["success"], reply["cipher_suite"]) == (True, "TLS_AES_128_GCM_SHA256")


def test_without_a_server_the_handshake_is_with_the_default_one() -> None:
    named = {"type": "rotate", "msg_id": 2, "service": "default-server"}

    replies = ask({"type": "handshake", "msg_id": 1, "client": "service-a"}, named)

    assert replies[1]["success"] is True
    assert replies[1]["server_serial"] == replies[2]["old_serial"]
    assert replies[1]["client_serial"] != replies[1]["server_serial"]


def test_a_certificate_is_issued_as_in_the_sample() -> None:
    message = {"type": "issue_certificate", "msg_id": 1, "service": "service-a"}

    [reply] = pipe(lines_of([{"src": "service", "dest": "ca", "body": message}]))

    assert list(reply)[:5] == ["type", "in_reply_to", "service", "certificate", "expiry"]
    assert (reply["type"], reply["in_reply_to"], reply["service"]) == ("certificate_issued", 1, "service-a")
    leaf = x509.load_pem_x509_certificate(reply["certificate"].encode())
    assert reply["certificate"].startswith("-----BEGIN CERTIFICATE-----")
    assert str(spiffe_id_of(leaf)) == reply["spiffe_id"] == "spiffe://example.com/service-a"
    assert datetime.fromisoformat(reply["expiry"]) == leaf.not_valid_after_utc


def test_an_identity_is_verified_as_in_the_sample() -> None:
    message = {"spiffe_id": "spiffe://example.com/ns-1/service-a", "trust_domain": "example.com"}

    assert pipe(lines_of([{"type": "verify_identity", "msg_id": 3, **message}])) == [
        {"type": "identity_valid", "in_reply_to": 3, "valid": True, "service": "service-a", "namespace": "ns-1"}
    ]


def test_an_invalid_certificate_is_rejected_as_in_the_sample() -> None:
    [reply] = pipe(lines_of([{"type": "handshake", "msg_id": 4, "client": "attacker", "cert": "invalid-cert"}]))

    assert list(reply.items())[:4] == [
        ("type", "handshake_failed"),
        ("in_reply_to", 4),
        ("reason", "Invalid certificate"),
        ("success", False),
    ]
    assert reply["detail"].startswith(
        "`cert` is not a PEM certificate, so one of a throw-away CA was presented: peer spiffe://example.com/attacker:"
        " no path to a root of the bundle of trust domain example.com"
    )


def test_an_identity_of_another_trust_domain_is_invalid() -> None:
    message = {"spiffe_id": "spiffe://example.org/service-a", "trust_domain": "example.com"}

    assert pipe(lines_of([{"type": "verify_identity", "msg_id": 3, **message}])) == [
        {
            "type": "identity_invalid",
            "in_reply_to": 3,
            "valid": False,
            "reason": "spiffe://example.org/service-a: wanted trust domain example.com, got example.org",
        }
    ]


def test_the_envelope_option_swaps_source_and_destination() -> None:
    enveloped = {"src": "a", "dest": "b", "body": {"type": "dance", "msg_id": 1}}

    replies = pipe(lines_of([enveloped, {"type": "dance", "msg_id": 2}]), "--envelope")

    assert [list(reply) for reply in replies] == [["src", "dest", "body"], ["type", "in_reply_to", "code", "text"]]
    assert (replies[0]["src"], replies[0]["dest"]) == ("b", "a")
    assert replies[0]["body"]["in_reply_to"] == 1


def test_the_envelope_option_is_for_success_too() -> None:
    [reply] = pipe(lines_of([{"src": "sidecar-a", "dest": "sidecar-b", "body": HANDSHAKE}]), "--envelope")

    assert (reply["src"], reply["dest"]) == ("sidecar-b", "sidecar-a")
    assert (reply["body"]["type"], reply["body"]["in_reply_to"]) == ("handshake_complete", 1)


def test_the_envelope_option_is_for_an_error_about_the_envelope_too() -> None:
    [reply] = pipe(b'{"src": "c1", "dest": "n1", "body": []}\n', "--envelope")

    assert (reply["src"], reply["dest"], reply["body"]["code"]) == ("n1", "c1", 12)


def test_a_csr_is_certified_for_its_key_under_the_name_of_the_service() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = csr_for(key, uri="spiffe://example.com/admin").public_bytes(Encoding.PEM).decode()
    message = {"type": "issue_certificate", "msg_id": 1, "service": "service-a", "namespace": "ns-1"}

    reply = ask({**message, "csr": csr, "ttl": 60})[1]

    leaf = x509.load_pem_x509_certificate(reply["certificate"].encode())
    assert leaf.public_key() == key.public_key()
    assert str(spiffe_id_of(leaf)) == "spiffe://example.com/ns-1/service-a"
    assert leaf.not_valid_after_utc - datetime.now(UTC) <= timedelta(seconds=60)


def test_a_csr_whose_signature_does_not_hold_is_refused() -> None:
    request = csr_for(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.DER)
    # The last byte is the signature's.
    good, bad = (pem(der) for der in (request, request[:-1] + bytes([request[-1] ^ 1])))
    message = {"type": "issue_certificate", "service": "service-a"}

    replies = ask({**message, "msg_id": 1, "csr": bad}, {**message, "msg_id": 2, "csr": good})

    assert replies[1] == {
        "type": "error",
        "in_reply_to": 1,
        "code": 12,
        "text": "issue_certificate: CSR: its signature is not by the key it holds; sign it with that key",
    }
    assert replies[2]["type"] == "certificate_issued"


def pem(request: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(request).replace(" CERTIFICATE-", " CERTIFICATE REQUEST-")


def test_rotation_is_reported_and_used_by_the_next_handshake() -> None:
    rotate = {"type": "rotate", "msg_id": 2, "service": "service-b"}

    replies = ask(HANDSHAKE, rotate, {**HANDSHAKE, "msg_id": 3})

    rotated = replies[2]
    assert rotated["type"] == "rotated"
    assert rotated["service"] == "service-b"
    assert rotated["old_serial"] != rotated["new_serial"]
    assert datetime.fromisoformat(rotated["expiry"]) > datetime.now(UTC)
    assert replies[1]["server_serial"] == rotated["old_serial"]
    assert replies[3]["server_serial"] == rotated["new_serial"]
    assert replies[1]["client_serial"] == replies[3]["client_serial"]


def test_an_issued_certificate_is_what_the_service_uses_next() -> None:
    issue = {"type": "issue_certificate", "msg_id": 1, "service": "service-a"}

    replies = ask(issue, {**HANDSHAKE, "msg_id": 2})

    leaf = x509.load_pem_x509_certificate(replies[1]["certificate"].encode())
    assert replies[2]["client_serial"] == format_serial(leaf)


@pytest.mark.parametrize(
    ("allow", "allowed"),
    [
        (["service-a"], True),
        (["spiffe://example.com/service-a"], True),
        (["service-c"], False),
        (["spiffe://example.org/service-a"], False),
        ([], False),
    ],
)
def test_a_policy_decides_who_may_reach_its_server(allow: list[str], allowed: bool) -> None:
    replies = ask({"type": "policy", "msg_id": 1, "server": "service-b", "allow": allow}, {**HANDSHAKE, "msg_id": 2})

    listed = [entry if "://" in entry else f"spiffe://example.com/{entry}" for entry in allow]
    assert replies[1]["type"] == "policy_set"
    assert replies[1]["allow"] == listed
    assert replies[2]["success"] is allowed
    if not allowed:
        assert replies[2] == {
            "type": "handshake_failed",
            "in_reply_to": 2,
            "reason": "Not authorized",
            "success": False,
            "detail": "peer spiffe://example.com/service-a is not allowed to reach spiffe://example.com/service-b;"
            f" allowed: {', '.join(listed) or 'nobody'}",
            "refused": "client",
        }


def test_a_policy_is_of_one_server_only() -> None:
    policy = {"type": "policy", "msg_id": 1, "server": "service-b", "allow": []}

    assert ask(policy, {**HANDSHAKE, "msg_id": 2, "server": "service-c"})[2]["success"] is True


def test_services_of_a_namespace_and_a_trust_domain_shake_hands() -> None:
    place = {"namespace": "ns-1", "trust_domain": "other.test"}
    policy = {"type": "policy", "msg_id": 1, "server": "service-b", "allow": ["service-a"], **place}

    replies = ask(policy, {**HANDSHAKE, "msg_id": 2, **place})

    assert replies[1]["allow"] == ["spiffe://other.test/ns-1/service-a"]
    assert replies[2]["success"] is True
