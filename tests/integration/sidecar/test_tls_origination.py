"""Item 22 of the policy semantics: SIMPLE and MUTUAL of a DestinationRule, towards real TLS servers."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from meshtls.address import Address
from meshtls.errors import ConfigError
from meshtls.sidecar.config import load_config
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import ConstantSource
from tests.integration.sidecar.mesh import OTHER, A, B, Node, an_app, as_a, connected, echoed, rest, running, side_b
from tests.support.ports import free_ports
from tests.support.require import require
from tests.support.waiting import SECONDS

CA, FOREIGN, CLIENTS = trustme.CA(), trustme.CA(), trustme.CA()
HOST = "db.example.com"
LONG_AGO = datetime.now(UTC) - timedelta(days=2)


@dataclass
class Server:
    """Echoes over TLS. ``seen`` are the server name, and the common name in the client's certificate, of each."""

    address: Address = field(default_factory=lambda: Address("127.0.0.1", 0))
    seen: list[tuple[str | None, str | None]] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    received: int = 0
    #: How each connection ended: the alert, if there was one.
    ended: asyncio.Queue[str] = field(default_factory=asyncio.Queue)


@contextlib.asynccontextmanager
async def a_server(
    certificate: trustme.LeafCert, *, clients: trustme.CA | None = None, newest: ssl.TLSVersion | None = None
) -> AsyncIterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        clients.configure_trust(context)
    if newest is not None:
        context.maximum_version = newest
    served = Server()

    def note_name(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        served.names.append(name)

    context.sni_callback = note_name

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown: Any = writer.get_extra_info("peercert") or {}
        common = [value for ((kind, value),) in shown.get("subject", ()) if kind == "commonName"]
        served.seen.append((served.names[-1], common[0] if common else None))
        try:
            while data := await reader.read(1 << 16):
                served.received += len(data)
                writer.write(data)
                await writer.drain()
            served.ended.put_nowait("close_notify")
        except ssl.SSLError as error:
            served.ended.put_nowait(error.reason or "")
        except OSError as error:
            served.ended.put_nowait(type(error).__name__)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        served.address = Address(*server.sockets[0].getsockname()[:2])
        yield served


def write(file: Path, *blobs: trustme.Blob) -> None:
    """Replace the file at once."""
    new = file.with_suffix(".new")
    new.write_bytes(b"".join(blob.bytes() for blob in blobs))
    new.replace(file)


def write_client(directory: Path, common_name: str, authority: trustme.CA = CLIENTS) -> None:
    shown = authority.issue_cert(f"{common_name}.test", common_name=common_name)
    write(directory / "client.pem", *shown.cert_chain_pems)
    write(directory / "client.key", shown.private_key_pem)


def write_no_pair(directory: Path) -> None:
    write_client(directory, "a")
    write(directory / "client.key", CA.private_key_pem)


def configured(directory: Path, to: Address, tls: str, keys: str = "", rest: str = "") -> Path:
    """A sidecar's file with a DestinationRule whose ``tls`` this is; ``rest`` follows in its spec."""
    (directory / "rules.yaml").write_text(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: default}\n"
        f"spec: {{host: {HOST}, trafficPolicy: {{tls: {{{tls}}}}}{rest}}}\n"
    )
    file = directory / "a.yaml"
    file.write_text(
        f"name: a\nspiffe_id: {A}\npolicies: [rules.yaml]\nlimits: {{handshake_timeout: 60s, connect_timeout: 60s}}\n"
        f"outbound:\n  - {{listen: '127.0.0.1:0', to: '{to}', peer: '{B}', host: {HOST}{keys}}}\n"
    )
    write(directory / "ca.pem", CA.cert_pem)
    return file


@contextlib.asynccontextmanager
async def calling(directory: Path, to: Address, tls: str, keys: str = "", rest: str = "") -> AsyncIterator[Node]:
    async with running(load_config(configured(directory, to, tls, keys, rest)), ConstantSource(as_a())) as node:
        yield node


async def called(node: Node) -> tuple[bytes, dict[str, Any]]:
    """What comes back for a ping, and the line in the log."""
    came = b""
    async with connected(node.outbound) as streams:
        with contextlib.suppress(ConnectionError):
            came = await echoed(streams)
            streams[1].write_eof()
            await rest(streams)
    return came, await node.lines.next()


SIMPLE = "mode: SIMPLE, caCertificates: ca.pem"
MUTUAL = "mode: MUTUAL, caCertificates: ca.pem, clientCertificate: client.pem, privateKey: client.key"


@pytest.mark.parametrize(
    ("tls", "certificate"),
    [
        (SIMPLE, lambda: CA.issue_cert(HOST)),
        (SIMPLE, lambda: CA.issue_cert("*.example.com")),
        (SIMPLE + ", sni: other.test", lambda: CA.issue_cert("other.test")),
        (SIMPLE + ", subjectAltNames: [one.test, two.test]", lambda: CA.issue_cert("x.test", "TWO.test")),
        (SIMPLE + ", subjectAltNames: [a.one.test]", lambda: CA.issue_cert("*.one.test")),
        (SIMPLE + ", subjectAltNames: ['127.0.0.1']", lambda: CA.issue_cert("127.0.0.1")),
        (SIMPLE + ", subjectAltNames: ['2001:db8::1']", lambda: CA.issue_cert("2001:DB8:0::1")),
        (SIMPLE + ", subjectAltNames: [a@b.test]", lambda: CA.issue_cert("a@b.test")),
        (SIMPLE + ", sni: a.test, subjectAltNames: [one.test]", lambda: CA.issue_cert("one.test")),
    ],
)
async def test_a_server_that_proves_a_wanted_name_is_connected(
    tmp_path: Path, tls: str, certificate: Callable[[], trustme.LeafCert]
) -> None:
    async with a_server(certificate()) as server, calling(tmp_path, server.address, tls) as a:
        came, line = await called(a)
    assert came == b"ping"
    assert (line["outcome"], line["security"], line["tls_version"]) == ("OK", "tls", "TLSv1.3")
    assert (line["source_id"], line["destination_id"], line["peer_serial"]) == (str(A), None, None)
    name = "other.test" if "other" in tls else "a.test" if "sni: a.test" in tls else HOST
    assert server.seen == [(name, None)]


UNTRUSTED = "OpenSSL refused the peer's certificate: "
NO_ISSUER = UNTRUSTED + "unable to get local issuer certificate"
MISMATCH = UNTRUSTED + "Hostname mismatch, certificate is not valid for '{}'."


@pytest.mark.parametrize(
    ("tls", "certificate", "outcome", "detail"),
    [
        (
            SIMPLE,
            lambda: FOREIGN.issue_cert(HOST),
            "PEER_UNTRUSTED",
            NO_ISSUER,
        ),
        (SIMPLE, lambda: CA.issue_cert("other.test"), "PEER_UNTRUSTED", MISMATCH.format(HOST)),
        (SIMPLE, lambda: CA.issue_cert("*.com"), "PEER_UNTRUSTED", MISMATCH.format(HOST)),
        (SIMPLE, lambda: CA.issue_cert("x.test", common_name=HOST), "PEER_UNTRUSTED", MISMATCH.format(HOST)),
        (
            SIMPLE,
            lambda: CA.issue_cert(HOST, not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=1)),
            "PEER_UNTRUSTED",
            UNTRUSTED + "certificate has expired",
        ),
        (SIMPLE + ", sni: other.test", lambda: CA.issue_cert(HOST), "PEER_UNTRUSTED", MISMATCH.format("other.test")),
        (
            SIMPLE + ", subjectAltNames: [one.test, two.test]",
            lambda: CA.issue_cert(HOST, "two.test.example.com"),
            "POLICY_DENIED",
            f"wanted a server's certificate for one of one.test, two.test, got one for {HOST}, two.test.example.com",
        ),
        (
            SIMPLE + ", subjectAltNames: [a.one.test]",
            lambda: CA.issue_cert("*.one.test.x", "*.test"),
            "POLICY_DENIED",
            "wanted a server's certificate for one of a.one.test, got one for *.one.test.x, *.test",
        ),
        (
            SIMPLE + ", subjectAltNames: ['127.0.0.1']",
            lambda: CA.issue_cert("127.0.0.2"),
            "POLICY_DENIED",
            "wanted a server's certificate for one of 127.0.0.1, got one for 127.0.0.2",
        ),
        (
            SIMPLE + ", subjectAltNames: [one.test]",
            lambda: FOREIGN.issue_cert("one.test"),
            "PEER_UNTRUSTED",
            NO_ISSUER,
        ),
    ],
)
async def test_a_server_that_proves_something_else_gets_no_byte(
    tmp_path: Path, tls: str, certificate: Callable[[], trustme.LeafCert], outcome: str, detail: str
) -> None:
    async with a_server(certificate()) as server, calling(tmp_path, server.address, tls) as a:
        came, line = await called(a)
    assert (came, line["outcome"], line["detail"]) == (b"", outcome, detail)
    assert (server.received, line["verdict"]) == (0, "denied")


@pytest.mark.parametrize(
    ("newest", "alerts"),
    [
        # Of OpenSSL 3.0, and of 3.6.
        (ssl.TLSVersion.TLSv1_2, {"TLSV1_ALERT_INTERNAL_ERROR", "SSLV3_ALERT_BAD_RECORD_MAC"}),
        (ssl.TLSVersion.TLSv1_3, {"SSLV3_ALERT_UNEXPECTED_MESSAGE"}),
    ],
)
async def test_a_server_with_another_name_gets_an_alert_and_not_an_end_that_looks_complete(
    tmp_path: Path, newest: ssl.TLSVersion, alerts: set[str]
) -> None:
    async with (
        a_server(CA.issue_cert(HOST), newest=newest) as server,
        calling(tmp_path, server.address, SIMPLE + ", subjectAltNames: [one.test]", ", tls_min: '1.2'") as a,
        asyncio.timeout(SECONDS),
    ):
        assert (await called(a))[1]["outcome"] == "POLICY_DENIED"
        assert await server.ended.get() in alerts
    async with (
        a_server(CA.issue_cert("one.test"), newest=newest) as server,
        calling(tmp_path, server.address, SIMPLE + ", subjectAltNames: [one.test]", ", tls_min: '1.2'") as a,
        asyncio.timeout(SECONDS),
    ):
        assert (await called(a))[0] == b"ping"
        assert await server.ended.get() == "close_notify"


async def test_a_server_without_tls_is_refused(tmp_path: Path) -> None:
    async with an_app(b"220 ready\r\n") as app, calling(tmp_path, app.address, SIMPLE) as a:
        came, line = await called(a)
    assert (came, line["verdict"]) == (b"", "denied")
    assert line["outcome"] == "PLAINTEXT_REFUSED"


@pytest.mark.parametrize("keys", ["", ", tls_min: '1.2'"])
async def test_tls_1_2_is_spoken_if_the_outbound_says_so(tmp_path: Path, keys: str) -> None:
    async with (
        a_server(CA.issue_cert(HOST), newest=ssl.TLSVersion.TLSv1_2) as server,
        calling(tmp_path, server.address, SIMPLE, keys) as a,
    ):
        came, line = await called(a)
    assert came == (b"ping" if keys else b"")
    assert line["outcome"] == ("OK" if keys else "HANDSHAKE_FAILED")


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("tls", ["mode: SIMPLE", "mode: SIMPLE, caCertificates: system"])
async def test_without_ca_certificates_the_system_s_authorities_verify(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, tls: str
) -> None:
    system = tmp_path / "system.pem"
    write(system, (CA if trusted else FOREIGN).cert_pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    async with a_server(CA.issue_cert(HOST)) as server, calling(tmp_path, server.address, tls) as a:
        came, line = await called(a)
        assert (came, line["outcome"]) == ((b"ping", "OK") if trusted else (b"", "PEER_UNTRUSTED"))
        assert a.sidecar.config.notices[-1] == (
            f"outbound 127.0.0.1:0: the DestinationRule for {HOST} says SIMPLE: the server is verified as {HOST} by the"
            f" system's authorities, and nothing proves that it is {B}"
        )


# -- MUTUAL --

#: In TLS 1.3 a client has finished before the server refuses it, with an alert or with a reset that overtakes it.
REFUSED = ((b"", "HANDSHAKE_FAILED"), (b"", "RESET"))


async def test_mutual_shows_the_certificate_that_the_rule_names(tmp_path: Path) -> None:
    write_client(tmp_path, "billing")
    async with a_server(CA.issue_cert(HOST), clients=CLIENTS) as server:
        async with calling(tmp_path, server.address, MUTUAL) as a:
            assert (await called(a))[0] == b"ping"
        assert server.seen == [(HOST, "billing")]
        async with calling(tmp_path, server.address, SIMPLE) as a:
            came, line = await called(a)
        assert (came, line["outcome"]) in REFUSED
        write_client(tmp_path, "billing", FOREIGN)
        async with calling(tmp_path, server.address, MUTUAL) as a:
            came, line = await called(a)
        assert (came, line["outcome"]) in REFUSED
    assert len(server.seen) == 1


async def test_mutual_verifies_the_server_like_simple(tmp_path: Path) -> None:
    write_client(tmp_path, "billing")
    async with (
        a_server(FOREIGN.issue_cert(HOST), clients=CLIENTS) as server,
        calling(tmp_path, server.address, MUTUAL) as a,
    ):
        assert (await called(a))[1]["outcome"] == "PEER_UNTRUSTED"
    assert server.seen == []


async def test_files_that_are_replaced_are_used_by_the_next_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_client(tmp_path, "first")
    async with (
        a_server(CA.issue_cert(HOST), clients=CLIENTS) as server,
        calling(tmp_path, server.address, MUTUAL) as a,
    ):
        assert (await called(a))[0] == b"ping"
        async with connected(a.outbound) as live:
            assert await echoed(live) == b"ping"
            # The certificate without its key is no pair: what was read before stays in use.
            other = CLIENTS.issue_cert("second.test", common_name="second")
            write(tmp_path / "client.pem", *other.cert_chain_pems)
            assert (await called(a))[0] == b"ping"
            (told,) = [one.getMessage() for one in caplog.records if "stays in use" in one.getMessage()]
            assert told.startswith(
                f"{tmp_path}/client.pem, {tmp_path}/client.key: wanted a certificate and its key as PEM, without a"
                " password: "
            )
            write(tmp_path / "client.key", other.private_key_pem)
            assert (await called(a))[0] == b"ping"
            assert [common for _, common in server.seen] == ["first", "first", "first", "second"]
            write(tmp_path / "ca.pem", FOREIGN.cert_pem)
            assert (await called(a))[1]["outcome"] == "PEER_UNTRUSTED"
            (tmp_path / "ca.pem").unlink()
            assert (await called(a))[1]["outcome"] == "PEER_UNTRUSTED"
            write(tmp_path / "ca.pem", FOREIGN.cert_pem, CA.cert_pem)
            assert (await called(a))[0] == b"ping"
            assert await echoed(live) == b"ping"  # what was verified before goes on


@pytest.mark.parametrize(
    ("tls", "make", "message"),
    [
        (SIMPLE.replace("ca.pem", "none.pem"), lambda at: None, "{at}/none.pem: wanted a file that can be read"),
        (SIMPLE.replace("ca.pem", "."), lambda at: None, "{at}: wanted a file that can be read"),
        (
            SIMPLE.replace("ca.pem", "rules.yaml"),
            lambda at: None,
            "{at}/rules.yaml: wanted certificates of authorities as PEM: ",
        ),
        (MUTUAL, lambda at: None, "{at}/client.pem: wanted a file that can be read"),
        (
            MUTUAL,
            write_no_pair,
            "{at}/client.pem, {at}/client.key: wanted a certificate and its key as PEM, without a password: ",
        ),
        (SIMPLE + f", sni: {'x' * 64}.test", lambda at: None, "wanted a server's name, got '" + "x" * 64 + ".test': "),
        (SIMPLE + ", sni: .test", lambda at: None, "wanted a server's name, got '.test': "),
    ],
)
def test_tls_settings_that_can_not_be_used_are_an_error_at_load(
    tmp_path: Path, tls: str, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path)
    with pytest.raises(ConfigError) as raised:
        load_config(configured(tmp_path, Address("127.0.0.1", 1), tls))
    begin = f"outbound 127.0.0.1:0: the DestinationRule for {HOST}: {message.format(at=tmp_path)}"
    assert str(raised.value).startswith(begin)


def test_an_encrypted_key_is_an_error_and_asks_nobody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    write_client(tmp_path, "a")
    load_config(configured(tmp_path, Address("127.0.0.1", 1), MUTUAL))
    file = tmp_path / "client.key"
    key: Any = serialization.load_pem_private_key(file.read_bytes(), None)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="without a password"):
        load_config(configured(tmp_path, Address("127.0.0.1", 1), MUTUAL))


def test_a_server_is_never_left_unverified(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="insecureSkipVerify: wanted false, got true: a server that is not verified"):
        load_config(configured(tmp_path, Address("127.0.0.1", 1), SIMPLE + ", insecureSkipVerify: true"))
    load_config(configured(tmp_path, Address("127.0.0.1", 1), SIMPLE + ", insecureSkipVerify: false"))


# -- which settings count --


@pytest.mark.parametrize(
    ("subset", "ports", "name"),
    [
        (False, False, HOST),
        (True, False, "subset.test"),
        (False, True, "port.test"),
        (True, True, "port.test"),
    ],
)
async def test_a_port_s_settings_beat_a_subset_s_and_these_the_rule_s(
    tmp_path: Path, subset: bool, ports: bool, name: str
) -> None:
    async with a_server(CA.issue_cert(name)) as server:
        of_port = (
            f", portLevelSettings: [{{port: {{number: {server.address.port}}}, tls: {{{SIMPLE}, sni: port.test}}}}]"
        )
        rest = f", subsets: [{{name: v2, trafficPolicy: {{tls: {{{SIMPLE}, sni: subset.test}}}}}}]"
        file = configured(tmp_path, server.address, SIMPLE, ", subset: v2" if subset else "", rest)
        rules = tmp_path / "rules.yaml"
        if ports:
            rules.write_text(rules.read_text().replace(f"{SIMPLE}}}}}, subsets", f"{SIMPLE}}}{of_port}}}, subsets"))
        async with running(load_config(file), ConstantSource(as_a())) as a:
            came, line = await called(a)
    assert (came, line["outcome"]) == (b"ping", "OK")


def test_an_unknown_subset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load_config(configured(tmp_path, Address("127.0.0.1", 1), SIMPLE, ", subset: v3"))
    assert str(raised.value) == (
        f"outbound 127.0.0.1:0: wanted a subset of the DestinationRule for {HOST}, which has none, got 'v3'"
    )


# -- changes --


@pytest.mark.parametrize("peer", [B, OTHER])
async def test_other_settings_end_the_connections_of_the_older_ones(tmp_path: Path, peer: SpiffeId) -> None:
    async with (
        a_server(CA.issue_cert(HOST, "two.test")) as server,
        calling(tmp_path, server.address, SIMPLE) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"
        same = a.sidecar.reload(load_config(configured(tmp_path, server.address, SIMPLE)))
        assert (same.taken, same.ended) == ((), 0)
        assert await echoed(streams) == b"ping"
        file = configured(tmp_path, server.address, SIMPLE + ", sni: two.test")
        file.write_text(file.read_text().replace(str(B), str(peer)))
        changed = a.sidecar.reload(load_config(file))
        keys = "origination" if peer == B else "peer, origination"
        assert (changed.taken, changed.ended) == ((f"outbound 127.0.0.1:0 ({keys})", "policies"), 1)
        line = await a.lines.next()
        assert (line["outcome"], line["detail"]) == (
            "POLICY_DENIED",
            "the server there has to prove something else now, by a DestinationRule",
        )
        assert (await called(a))[0] == b"ping"
    assert [name for name, _ in server.seen] == [HOST, "two.test"]


async def test_a_rule_for_the_mesh_again_ends_the_connections_to_others(tmp_path: Path) -> None:
    async with (
        an_app() as app,
        side_b(app.address) as b,
        a_server(CA.issue_cert(HOST)) as server,
        calling(tmp_path, server.address, SIMPLE) as a,
        connected(a.outbound) as streams,
    ):
        assert await echoed(streams) == b"ping"
        assert a.sidecar.reload(load_config(configured(tmp_path, b.inbound, "mode: ISTIO_MUTUAL"))).ended == 1
        assert (await a.lines.next())["outcome"] == "POLICY_DENIED"
        assert (await called(a))[1]["security"] == "mutual_tls"
        assert a.sidecar.reload(load_config(configured(tmp_path, server.address, SIMPLE))).ended == 0
        assert (await called(a))[1]["security"] == "tls"


async def test_a_tunnel_and_warm_connections_are_for_the_mesh_alone(tmp_path: Path) -> None:
    for keys in (", tunnel: true", ", warm: 2"):
        async with a_server(CA.issue_cert(HOST)) as server, calling(tmp_path, server.address, SIMPLE, keys) as a:
            assert (await called(a))[0] == b"ping"
        assert len(server.seen) == 1


# -- OpenSSL's own server --


@pytest.mark.parametrize(("host", "authority"), [(HOST, CLIENTS), ("other.test", CLIENTS), (HOST, FOREIGN)])
async def test_openssl_s_server_and_mutual(tmp_path: Path, host: str, authority: trustme.CA) -> None:
    require("openssl", shutil.which("openssl") is not None, "the openssl command is not installed")
    shown = CA.issue_cert(host)
    write(tmp_path / "server.pem", *shown.cert_chain_pems)
    write(tmp_path / "server.key", shown.private_key_pem)
    write(tmp_path / "clients.pem", CLIENTS.cert_pem)
    write_client(tmp_path, "billing", authority)
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", "server.pem", "-key", "server.key"),
        *("-Verify", "2", "-verify_return_error", "-CAfile", "clients.pem", "-rev", "-quiet"),
        cwd=tmp_path,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with calling(tmp_path, Address("127.0.0.1", port), MUTUAL) as a, asyncio.timeout(SECONDS):
            outcome, came = "CONNECT_FAILED", b""
            while outcome == "CONNECT_FAILED":  # until it listens
                async with connected(a.outbound) as streams:
                    with contextlib.suppress(ConnectionError):
                        streams[1].write(b"ping\n")
                        came = await streams[0].readline()
                        streams[1].write_eof()
                        await streams[0].read()
                outcome = (await a.lines.next())["outcome"]
    finally:
        process.kill()
        await process.wait()
    if host != HOST:
        assert (outcome, came) == ("PEER_UNTRUSTED", b"")
    elif authority is FOREIGN:
        assert (came, outcome) in REFUSED
    else:
        assert came == b"gnip\n"
