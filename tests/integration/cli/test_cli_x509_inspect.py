"""``meshtls x509 inspect`` beside OpenSSL, on hostile certificates, and on live servers."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from meshtls.bundle import BundleSet
from meshtls.policy.authorizer import authorize_any
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource, X509Context
from meshtls.tls.streams import listen
from tests.integration.cli.identity_site import Told, tell
from tests.support.authority import make_authority, svid_for
from tests.support.certs import NOW, Issued, ca, leaf
from tests.support.require import require

WEB = "spiffe://a.test/web"
ROOT = ca(None, "spiffe://a.test", name="root a", slot="root a")
MIDDLE = ca(ROOT, name="middle", slot="middle")
AT = ("--at", NOW.strftime("%Y-%m-%dT%H:%M:%SZ"))
GOOD = (leaf(MIDDLE, WEB), MIDDLE)


def pem(*chain: Issued) -> bytes:
    return b"".join(one.certificate.public_bytes(Encoding.PEM) for one in chain)


def inspect(tmp_path: Path, content: bytes, *more: str | Path) -> Told:
    file = tmp_path / "svid.pem"
    file.write_bytes(content)
    return tell("x509", "inspect", file, *AT, *more)


def broken(told: Told) -> list[str]:
    """Each broken rule with its section and reason."""
    found = told.json
    rules = [*found["chain"], *(rule for one in found["certificates"] for rule in one["rules"])]
    return [f"{one['rule']} ({one['section']}): {one['reason']}" for one in rules if not one["kept"]]


def test_a_good_chain_keeps_every_rule(tmp_path: Path) -> None:
    told = inspect(tmp_path, pem(*GOOD))
    assert (told.code, told.err) == (0, "")
    for line in (
        "  names                   URI:spiffe://a.test/web",
        "  serial                  abc123 (openssl: ABC123)",
        "  key                     EC secp256r1",
        "  signature               ecdsa-with-sha256",
        "  not after               2030-05-01T13:00:00Z (1h left of 2h)",
        "  key usage               digitalSignature (critical)",
        "  issued by               certificate 1",
        "  issued by               none of these",
        "every rule is kept",
    ):
        assert line in told.out
    for rule in (
        "exactly one URI SAN (X509-SVID, section 2)",
        "a SPIFFE ID with a path (X509-SVID, section 3.1)",
        "not a CA (X509-SVID, section 4.1)",
        "critical keyUsage with digitalSignature, without keyCertSign and cRLSign (X509-SVID, section 4.3)",
        "serverAuth and clientAuth, if there is extendedKeyUsage (X509-SVID, section 4.4)",
        "at most one SPIFFE ID, without a path (X509-SVID, section 3.2)",
    ):
        assert f" {rule}\n" in told.out


@pytest.mark.parametrize(
    ("chain", "reason"),
    [
        ((leaf(MIDDLE), MIDDLE), "exactly one URI SAN (X509-SVID, section 2): wanted exactly one URI SAN, got 0"),
        (
            (leaf(MIDDLE, "spiffe://a.test"), MIDDLE),
            "a SPIFFE ID with a path (X509-SVID, section 3.1): wanted a SPIFFE ID with a path, got a trust domain's"
            " own",
        ),
        (
            (leaf(MIDDLE, WEB, usages=None), MIDDLE),
            "critical keyUsage with digitalSignature, without keyCertSign and cRLSign (X509-SVID, section 4.3):"
            " wanted the keyUsage extension, got none",
        ),
        (
            (leaf(MIDDLE, WEB, not_after=NOW - timedelta(seconds=1)), MIDDLE),
            "valid now (RFC 5280, section 4.1.2.5): abc123 expired at 2030-05-01T11:59:59Z; our clock says"
            " 2030-05-01T12:00:00Z",
        ),
        (
            (leaf(MIDDLE, WEB), ca(ROOT, name="middle", slot="middle", usages=("crl_sign",))),
            "keyCertSign in keyUsage (X509-SVID, section 4.3): wanted keyCertSign in a signer's keyUsage",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_section(tmp_path: Path, chain: tuple[Issued, ...], reason: str) -> None:
    told = inspect(tmp_path, pem(*chain), "--output", "json")
    assert (told.code, broken(told)) == (1, [reason])


def test_a_bundle_verifies_the_path(tmp_path: Path) -> None:
    bundle, foreign = tmp_path / "bundle.pem", tmp_path / "foreign.pem"
    bundle.write_bytes(pem(ROOT))
    foreign.write_bytes(pem(ca(None, name="root a", slot="foreign")))
    told = inspect(tmp_path, pem(*GOOD), "--bundle", bundle)
    assert (told.code, f"a path to an authority of {bundle} (X509-SVID, section 5)\n" in told.out) == (0, True)
    told = inspect(tmp_path, pem(*GOOD), "--bundle", foreign, "--output", "json")
    assert told.code == 1
    assert "one of them has its issuer's name and another key" in broken(told)[0]


def test_der_and_standard_input_are_read_like_pem(tmp_path: Path) -> None:
    as_pem = inspect(tmp_path, pem(*GOOD), "--output", "json").json["certificates"]
    ders = b"".join(one.der for one in GOOD)
    assert inspect(tmp_path, ders, "--output", "json").json["certificates"] == as_pem
    assert tell("x509", "inspect", "-", *AT, "--output", "json", given=ders).json["certificates"] == as_pem


def test_a_private_key_in_the_file_is_not_shown(tmp_path: Path) -> None:
    key = GOOD[0].private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    told = inspect(tmp_path, key + pem(*GOOD) + key)
    assert (told.code, told.out.count("  note: it also has a private key, which is not shown\n")) == (0, 1)
    assert key.splitlines()[1].decode() not in told.out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "wanted certificates, as PEM or DER, got none"),
        (b"server:\n  trust_domain: a.test\n", "wanted certificates, got neither PEM nor DER certificates"),
        (b"0hello", "wanted certificates, as PEM or DER: an element is longer than what it stands in"),
        (
            b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n",
            "wanted certificates, as PEM or DER: PEM block 0: Invalid base64-encoded string: number of data characters"
            " (1) cannot be 1 more than a multiple of 4",
        ),
        (b"0" * ((1 << 20) + 1), "wanted at most 1048576 bytes, got more"),
    ],
)
def test_a_file_without_certificates_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    told = inspect(tmp_path, content)
    assert (told.code, told.out, told.err) == (2, "", f"meshtls: {tmp_path / 'svid.pem'}: {message}\n")


def hostile() -> Iterator[tuple[str, bytes]]:
    name = "web\n  serial   forged\x1b[2J\u202e" + "x" * 30
    yield "control characters in a name", leaf(MIDDLE, WEB, subject=name).der
    yield "a huge name", leaf(MIDDLE, WEB, dns=["a" * 60_000]).der
    yield "a certificate too large to decode", leaf(MIDDLE, WEB, dns=["a" * 70_000]).der
    yield "many names", leaf(MIDDLE, WEB, dns=[f"n{number}.test" for number in range(1000)]).der
    yield "no certificate", b"0\x82\x01\x00" + bytes(256)
    cut = bytearray(GOOD[0].der)
    at = cut.index(b"spiffe://a.test")
    cut[at : at + 9] = b"\xff\xfe\x1b\x00\x07\x9b\xc2\x80\xff"
    yield "bytes that are no text in the SAN", bytes(cut)


@pytest.mark.parametrize(("name", "der"), list(hostile()), ids=[name for name, _ in hostile()])
def test_a_hostile_certificate_is_shown_escaped_and_bounded(tmp_path: Path, name: str, der: bytes) -> None:
    told = inspect(tmp_path, der)
    assert (told.err, len(told.out) < 12_000) == ("", True)
    assert all(one.isprintable() or one == "\n" for one in told.out)
    assert sum(line.startswith("  serial ") for line in told.out.split("\n")) <= 1
    as_json = inspect(tmp_path, der, "--output", "json")
    assert (as_json.code, as_json.json["good"]) == (told.code, told.code == 0)
    assert len(as_json.out) < 12_000
    if name != "control characters in a name":
        assert told.code == 1


def openssl(file: Path, *options: str) -> str:
    require("openssl", shutil.which("openssl") is not None, "the openssl command is not installed")
    command = ["openssl", "x509", "-noout", "-in", str(file), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("serial", [0xABC123, 1, 0x0F, 1 << 158, 0x80])
def test_openssl_prints_the_same_fields(tmp_path: Path, serial: int) -> None:
    aia = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.test/ca.cer")
    )
    point = x509.DistributionPoint([x509.UniformResourceIdentifier("http://ca.test/1.crl")], None, None, None)
    extra = [(x509.AuthorityInformationAccess([aia]), False), (x509.CRLDistributionPoints([point]), False)]
    key = rsa.generate_private_key(65537, 2048)
    one = leaf(MIDDLE, WEB, dns=["web.test"], ip=["127.0.0.1"], serial=serial, extra=extra, own_key=key)
    found = inspect(tmp_path, pem(one), "--output", "json").json["certificates"][0]

    file = tmp_path / "svid.pem"
    assert openssl(file, "-serial") == f"serial={found['openssl_serial']}\n"
    for digest in ("sha256", "sha1"):
        printed = openssl(file, "-fingerprint", f"-{digest}").strip().partition("=")[2]
        assert printed.replace(":", "").lower() == found[digest]
    times = openssl(file, "-dates", "-dateopt", "iso_8601").replace(" ", "T")
    assert times == f"notBefore={found['not_before']}\nnotAfter={found['not_after']}\n"
    text = openssl(file, "-text")
    assert "URI:spiffe://a.test/web, DNS:web.test, IP Address:127.0.0.1" in text
    assert found["names"] == ["URI:spiffe://a.test/web", "DNS:web.test", "IP:127.0.0.1"]
    assert ("Public-Key: (2048 bit)" in text, found["key"]) == (True, "RSA of 2048 bits, exponent 65537")
    assert ("CA Issuers - URI:http://ca.test/ca.cer" in text, found["issuer_certificate_at"]) == (
        True,
        ["http://ca.test/ca.cer"],
    )
    assert ("URI:http://ca.test/1.crl" in text, found["crl_at"]) == (True, ["http://ca.test/1.crl"])
    assert ("Signature Algorithm: ecdsa-with-SHA256" in text, found["signature"]) == (True, "ecdsa-with-sha256")


async def test_a_live_server_is_shown_and_not_trusted(tmp_path: Path) -> None:
    authority = make_authority("a.test")
    svid = svid_for(authority, SpiffeId.parse(WEB))
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.bundle.to_pem())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    source = ConstantSource(X509Context(1, (svid,), BundleSet([authority.bundle])))
    async with await listen("127.0.0.1", 0, source, authorize_any(), serve) as listener:
        where = f"127.0.0.1:{listener.address[1]}"
        told = await asyncio.to_thread(tell, "x509", "inspect", where, "--output", "json")
        verified = await asyncio.to_thread(tell, "x509", "inspect", where, "--bundle", bundle)
    found = told.json
    assert (told.code, found["certificates"][0]["names"]) == (0, [f"URI:{WEB}"])
    assert found["server"]["tls_version"] == "TLSv1.3"
    assert found["server"]["wants_certificate"] is True
    assert (verified.code, "nothing of it was trusted" in verified.out) == (0, True)
    assert f"a path to an authority of {bundle}" in verified.out


@contextmanager
def answering(answer: bytes, *, closes: bool = True) -> Iterator[str]:
    """A server that sends this, whatever it is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1 << 14)
                sock.sendall(answer)
                if not closes:
                    sock.recv(1 << 14)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_server_without_certificates_is_an_error() -> None:
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as where:
        told = tell("x509", "inspect", where)
    assert (told.code, told.err) == (1, f"meshtls: {where} answers in plaintext, not TLS\n")
    with answering(b"") as where:
        told = tell("x509", "inspect", where)
    assert (told.code, told.err) == (1, f"meshtls: {where}: the peer closed the connection in the middle of TLS\n")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"127.0.0.1:{listener.getsockname()[1]}"
    told = tell("x509", "inspect", where)
    assert (told.code, told.err) == (1, f"meshtls: {where}: can't be reached: Connection refused\n")


def test_a_name_that_no_resolver_takes_is_an_error() -> None:
    told = tell("x509", "inspect", "a..test:443")
    assert (told.code, told.err) == (2, "meshtls: a..test:443: wanted a file that exists, - or host:port\n")


def test_a_server_that_sends_too_much_is_an_error() -> None:
    # TLS 1.2, whose certificates are plaintext, with renegotiation_info.
    hello = b"\x02\x00\x00\x2d\x03\x03" + bytes(32) + b"\x00\xc0\x2b\x00\x00\x05\xff\x01\x00\x01\x00"
    messages = hello + b"\x0b" + (90_000).to_bytes(3, "big") + bytes(90_000)
    size = 1 << 14
    parts = [messages[at : at + size] for at in range(0, len(messages), size)]
    with answering(b"".join(b"\x16\x03\x03" + len(part).to_bytes(2, "big") + part for part in parts)) as where:
        told = tell("x509", "inspect", where)
    words = "wanted a handshake of at most 65536 bytes, got more"
    assert (told.code, told.err) == (1, f"meshtls: {where}: {words}\n")


def test_a_proxy_protocol_header_goes_to_a_server_only(tmp_path: Path) -> None:
    file = tmp_path / "a.pem"
    file.touch()
    told = tell("x509", "inspect", file, "--proxy-protocol", "v2")
    assert (told.code, told.err) == (2, f"meshtls: {file}: wanted host:port with --proxy-protocol, got a file\n")


def test_an_argument_that_is_neither_a_file_nor_a_server_is_an_error() -> None:
    told = tell("x509", "inspect", "nowhere.pem")
    assert (told.code, told.err) == (2, "meshtls: nowhere.pem: wanted a file that exists, - or host:port\n")
