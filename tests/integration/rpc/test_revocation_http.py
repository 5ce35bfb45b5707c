"""CRLs and OCSP over HTTP, asked by ``openssl ocsp``, by a plain client, and by one that keeps no rule."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from meshtls.clock import SystemClock
from meshtls.errors import ConfigError, MeshtlsError, StoreError
from meshtls.revocation.building import CrlEntry, build_crl
from meshtls.revocation.ocsp import NOT_ISSUED, OCSP_GOOD, CertificateState, OcspSigner, delegate_certificate
from meshtls.revocation.publishing import CrlFile
from meshtls.rpc.brief_connections import MOST_CONNECTIONS
from meshtls.rpc.revocation_http import RevocationListener, serve_revocation
from meshtls.svid.x509 import X509Svid
from tests.support.authority import LASTING, make_authority, svid_for
from tests.support.waiting import SECONDS

CLOCK = SystemClock()
AUTHORITY = make_authority()
CA, ROOT = AUTHORITY.intermediate, AUTHORITY.bundle.x509_authorities[0]
GOOD, BAD, UNISSUED = (svid_for(AUTHORITY, path, ttl=LASTING) for path in ("/good", "/bad", "/unissued"))
STATUS = ocsp.OCSPResponseStatus
TYPE = {"Content-Type": "application/ocsp-request"}


def direct() -> OcspSigner:
    return OcspSigner(CA.certificate, CA.certificate, CA.private_key)


def delegated() -> OcspSigner:
    key, now = ec.generate_private_key(ec.SECP256R1()), CLOCK.now()
    certificate = delegate_certificate(
        CA.certificate, CA.private_key, key, now - timedelta(minutes=1), now + timedelta(hours=1)
    )
    return OcspSigner(CA.certificate, certificate, key)


@dataclass
class Tables:
    """The lookup of a test: what is revoked, and how often it was asked."""

    signing: Sequence[OcspSigner] = field(default_factory=lambda: [direct()])
    revoked: dict[int, CertificateState] = field(
        default_factory=lambda: {
            BAD.leaf.serial_number: CertificateState.revoked(CLOCK.now(), x509.ReasonFlags.key_compromise)
        }
    )
    failing: bool = False
    failure: MeshtlsError = field(default_factory=lambda: StoreError("the database is locked"))
    asked: int = 0
    hold: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def crl(self, name: str) -> CrlFile | None:
        self._check()
        now = CLOCK.now().replace(microsecond=0)
        entries = [CrlEntry(serial, now) for serial in self.revoked]
        until = now + timedelta(hours=1)
        der = build_crl(CA.certificate, CA.private_key, entries, number=1, now=now, next_update=until)
        return CrlFile(der, now, until) if name == "ca.crl" else None

    async def state(self, signer: OcspSigner, serial_number: int) -> CertificateState:
        self._check()
        issued = serial_number in (GOOD.leaf.serial_number, BAD.leaf.serial_number)
        state = self.revoked.get(serial_number, OCSP_GOOD if issued else NOT_ISSUED)
        self.arrived.set()
        if self.hold is not None:
            await self.hold.wait()
        return state

    def signers(self) -> Sequence[OcspSigner]:
        return self.signing

    def _check(self) -> None:
        self.asked += 1
        if self.failing:
            raise self.failure


@dataclass(frozen=True)
class Site:
    port: int
    tables: Tables
    listener: RevocationListener

    async def ask(
        self, method: str, target: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        return await asyncio.to_thread(partial(self._ask, method, target, body, headers))

    def _ask(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, target, body or None, named)
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())


@contextlib.asynccontextmanager
async def site(tables: Tables | None = None, signatures: float = 500.0) -> AsyncIterator[Site]:
    tables = tables or Tables()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        listener.setblocking(False)
        async with serve_revocation(
            listener, tables, CLOCK, validity=timedelta(hours=1), signatures=signatures
        ) as serving:
            yield Site(listener.getsockname()[1], tables, serving)


def request_for(svid: X509Svid, nonce: bytes | None = None, issuer: x509.Certificate = CA.certificate) -> bytes:
    builder = ocsp.OCSPRequestBuilder().add_certificate(svid.leaf, issuer, hashes.SHA256())
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build().public_bytes(Encoding.DER)


async def post(there: Site, der: bytes) -> ocsp.OCSPResponse:
    status, body, headers = await there.ask("POST", "/ocsp", der, Content_Type="application/ocsp-request")
    assert (status, headers["Content-Type"]) == (200, "application/ocsp-response")
    return ocsp.load_der_ocsp_response(body)


async def openssl(*arguments: str, directory: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        "openssl", *arguments, cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.parametrize("signing", [direct, delegated], ids=["the CA", "a delegate"])
async def test_openssl_ocsp_reads_good_revoked_and_unknown(tmp_path: Path, signing: Callable[[], OcspSigner]) -> None:
    (tmp_path / "root.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(CA.certificate.public_bytes(Encoding.PEM))
    wanted = {"good": (GOOD, "good"), "bad": (BAD, "revoked"), "unissued": (UNISSUED, "unknown")}
    async with site(Tables([signing()])) as there:
        for name, (svid, told) in wanted.items():
            (tmp_path / f"{name}.pem").write_bytes(svid.leaf.public_bytes(Encoding.PEM))
            for nonce in ("-nonce", "-no_nonce"):
                code, output = await openssl(
                    "ocsp", "-issuer", "ca.pem", "-cert", f"{name}.pem", "-CAfile", "root.pem", "-verify_other",
                    "ca.pem", "-url", f"http://127.0.0.1:{there.port}/ocsp", nonce, directory=tmp_path,
                )  # fmt: skip
                assert code == 0, output
                assert "Response verify OK" in output
                assert f"{name}.pem: {told}" in output
                assert "WARNING" not in output
                assert ("Reason: keyCompromise" in output) is (told == "revoked")


async def test_a_get_has_the_same_answer_as_a_post_and_may_be_cached() -> None:
    async with site() as there:
        posted = await post(there, request_for(BAD))
        for escape in (str, partial(quote, safe="")):
            path = escape(base64.b64encode(request_for(BAD)).decode())
            status, body, headers = await there.ask("GET", f"/ocsp/{path}")
            assert (status, headers["Content-Type"]) == (200, "application/ocsp-response")
            assert headers["Cache-Control"].startswith("max-age=")
            got = ocsp.load_der_ocsp_response(body)
            assert got.certificate_status is posted.certificate_status is ocsp.OCSPCertStatus.REVOKED
        path = quote(base64.b64encode(request_for(BAD, b"n" * 32)).decode(), safe="")
        _, body, headers = await there.ask("GET", f"/ocsp/{path}")
        assert headers["Cache-Control"] == "no-store"
        assert [one.value for one in ocsp.load_der_ocsp_response(body).extensions] == [x509.OCSPNonce(b"n" * 32)]


async def test_a_revocation_is_told_as_soon_as_the_kept_answers_are_dropped() -> None:
    async with site() as there:
        for _ in range(3):
            assert (await post(there, request_for(GOOD))).certificate_status is ocsp.OCSPCertStatus.GOOD
        assert there.tables.asked == 1
        there.tables.revoked[GOOD.leaf.serial_number] = CertificateState.revoked(CLOCK.now())
        assert (await post(there, request_for(GOOD, b"n"))).certificate_status is ocsp.OCSPCertStatus.REVOKED
        there.listener.forget()
        assert (await post(there, request_for(GOOD))).certificate_status is ocsp.OCSPCertStatus.REVOKED


async def test_an_answer_from_before_a_revocation_is_not_kept() -> None:
    async with site(Tables(hold=asyncio.Event())) as there:
        early = asyncio.create_task(post(there, request_for(GOOD)))
        await asyncio.wait_for(there.tables.arrived.wait(), SECONDS)
        there.tables.revoked[GOOD.leaf.serial_number] = CertificateState.revoked(CLOCK.now())
        there.listener.forget()
        assert there.tables.hold is not None
        there.tables.hold.set()
        assert (await early).certificate_status is ocsp.OCSPCertStatus.GOOD
        assert (await post(there, request_for(GOOD))).certificate_status is ocsp.OCSPCertStatus.REVOKED


@pytest.mark.parametrize(
    ("der", "status"),
    [
        (request_for(GOOD), STATUS.SUCCESSFUL),
        (request_for(GOOD, issuer=ROOT), STATUS.UNAUTHORIZED),
        (b"junk", STATUS.MALFORMED_REQUEST),
        (request_for(GOOD, b"n" * 129), STATUS.MALFORMED_REQUEST),
    ],
    ids=["good", "another issuer", "junk", "a long nonce"],
)
async def test_a_request_that_has_no_status_gets_an_error_response(der: bytes, status: STATUS) -> None:
    async with site() as there:
        assert (await post(there, der)).response_status is status


async def test_signatures_are_bounded_and_a_kept_answer_needs_none() -> None:
    async with site(signatures=1e-6) as there:  # the first is there at once
        assert (await post(there, request_for(GOOD))).response_status is STATUS.SUCCESSFUL
        assert (await post(there, request_for(BAD))).response_status is STATUS.TRY_LATER
        assert (await post(there, request_for(GOOD, b"n"))).response_status is STATUS.TRY_LATER
        assert (await post(there, request_for(GOOD))).response_status is STATUS.SUCCESSFUL


@pytest.mark.parametrize(
    "failure", [StoreError("the database is locked"), ConfigError("the token is gone")], ids=["store", "token"]
)
async def test_a_store_or_a_token_that_fails_is_told_as_try_later(failure: MeshtlsError) -> None:
    async with site(Tables(failing=True, failure=failure)) as there:
        assert (await post(there, request_for(GOOD))).response_status is STATUS.TRY_LATER
        assert (await there.ask("GET", "/crl/ca.crl"))[0] == 503
        there.tables.failing = False
        assert (await post(there, request_for(GOOD))).response_status is STATUS.SUCCESSFUL


async def test_a_crl_is_fetched_and_openssl_refuses_what_it_lists(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    (tmp_path / "ca.pem").write_bytes(CA.certificate.public_bytes(Encoding.PEM))
    async with site() as there:
        status, der, headers = await there.ask("GET", "/crl/ca.crl")
        assert (status, headers["Content-Type"]) == (200, "application/pkix-crl")
        crl = x509.load_der_x509_crl(der)
        (tmp_path / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))
        for svid, code in ((GOOD, 0), (BAD, 2)):
            (tmp_path / "leaf.pem").write_bytes(svid.leaf.public_bytes(Encoding.PEM))
            arguments = ("-CAfile", "root.pem", "-untrusted", "ca.pem", "-CRLfile", "crl.pem", "leaf.pem")
            assert (await openssl("verify", "-crl_check", *arguments, directory=tmp_path))[0] == code
        assert (await there.ask("HEAD", "/crl/ca.crl"))[:2] == (200, b"")
        assert (await there.ask("GET", "/crl/other.crl"))[0] == 404


async def test_a_crl_that_the_client_has_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now, until = CLOCK.now(), CLOCK.now() + timedelta(hours=1)
    file = CrlFile(build_crl(CA.certificate, CA.private_key, [], number=1, now=now, next_update=until), now, until)

    async def same(self: Tables, name: str) -> CrlFile | None:
        return file

    monkeypatch.setattr(Tables, "crl", same)
    async with site() as there:
        _, _, headers = await there.ask("GET", "/crl/ca.crl")
        assert (await there.ask("GET", "/crl/ca.crl", If_None_Match=headers["ETag"]))[:2] == (304, b"")
        assert (await there.ask("GET", "/crl/ca.crl", If_None_Match='"another"'))[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /crl/ca.crl HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"DELETE /crl/ca.crl HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"GET /ocsp HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST /ocsp/MEI= HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 405),
        (b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx", 415),
        (b"POST /ocsp HTTP/1.1\r\nHost: a\r\nContent-Length: 8193\r\n\r\n", 413),
        (b"POST /ocsp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET /crl/ca.crl HTTP/1.1\r\n\r\n", 400),
        (b"GET /crl/ca.crl\r\n\r\n", 400),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"a" * 40000 + b"\r\n\r\n", 431),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
    ],
    ids=lambda value: (
        None if isinstance(value, int) else value[:40].decode("latin-1").encode("ascii", "replace").decode()
    ),
)
async def test_a_request_that_breaks_a_rule_gets_a_status(request_: bytes, status: int) -> None:
    async with site() as there, asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", there.port)
        writer.write(request_)
        answer = await reader.read()
        assert answer.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"\r\nConnection: close\r\n" in answer
        writer.close()


async def test_idle_connections_make_room_for_others() -> None:
    async with site() as there, asyncio.timeout(SECONDS):
        idle = [await asyncio.open_connection("127.0.0.1", there.port) for _ in range(MOST_CONNECTIONS + 8)]
        assert (await post(there, request_for(GOOD))).response_status is STATUS.SUCCESSFUL
        for reader, _ in idle[: len(idle) + 1 - MOST_CONNECTIONS]:
            assert await reader.read() == b""
        for _, writer in idle:
            writer.close()
