"""CRL files of a partner's CAs: fresh ones are needed, a change is live at once, and only a loud key opens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.ca.keys.manager import Slot
from meshtls.ca.profile import Signer
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError
from meshtls.revocation.building import CrlEntry, build_crl
from meshtls.sidecar.config import parse_config
from meshtls.sidecar.crl_files import CrlFiles, CrlKeys
from meshtls.svid.context import ConstantSource
from meshtls.svid.x509 import X509Svid
from tests.integration.sidecar.mesh import OURS, PARTNER, A, Node, an_app, as_b, connected, echoed, side_a, side_b
from tests.integration.sidecar.test_trust_changes import GUEST, Turning, ended
from tests.support.authority import LASTING, context_for
from tests.support.waiting import SECONDS, until

CLOCK = SystemClock()
DOMAIN = PARTNER.trust_domain
HOUR = timedelta(hours=1)


def pem(signer: Signer, *revoked: X509Svid, number: int = 1, valid: timedelta = HOUR) -> bytes:
    now = CLOCK.now()
    entries = [CrlEntry(one.leaf.serial_number, now) for one in revoked]
    made = now - timedelta(minutes=1) + min(valid, timedelta(0))
    der = build_crl(
        signer.certificate, signer.private_key, entries, number=number, now=made, next_update=made + abs(valid)
    )
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)


def whole(*revoked: X509Svid, number: int = 1, valid: timedelta = HOUR) -> bytes:
    """The CRLs of the partner's root and intermediate; the latter lists these."""
    root = PARTNER.keys.load()[Slot.ROOT]
    return pem(root, valid=valid) + pem(PARTNER.intermediate, *revoked, number=number, valid=valid)


@dataclass
class Guests:
    """B, behind which is an app, and two sidecars of the partner's domain that call it."""

    b: Node
    one: Node
    two: Node
    svid: X509Svid


@contextlib.asynccontextmanager
async def guests(file: Path, *, constant: bool = False, accept: bool = False) -> AsyncIterator[Guests]:
    keys = CrlKeys(trust_domain=DOMAIN, files=(file,), accept_peers_without_a_fresh_crl=accept)
    contexts = [context_for(PARTNER, GUEST, federated=[OURS.bundle]) for _ in range(2)]
    source = ConstantSource(as_b()) if constant else Turning(as_b())
    async with (
        an_app() as app,
        side_b(app.address, allow=(A, GUEST), source=source, crls=(keys,)) as b,
        side_a(b.inbound, contexts[0]) as one,
        side_a(b.inbound, contexts[1]) as two,
    ):
        yield Guests(b, one, two, contexts[0].svid)


async def comes_in(node: Node) -> bool:
    async with connected(node.outbound) as streams:
        streams[1].write(b"ping")
        try:
            return await streams[0].read(4) == b"ping"
        except ConnectionError:
            return False


async def test_a_peer_comes_in_by_a_fresh_crl_and_is_cut_off_when_the_file_lists_it(tmp_path: Path) -> None:
    file = tmp_path / "partner.pem"
    file.write_bytes(whole())
    async with guests(file) as mesh, connected(mesh.one.outbound) as first, connected(mesh.two.outbound) as second:
        assert (await echoed(first), await echoed(second)) == (b"ping", b"ping")
        file.write_bytes(whole(mesh.svid, number=2))
        line = await mesh.b.lines.the("PEER_REVOKED")
        assert line["source_id"] == str(GUEST)
        assert await ended(first) == b""
        assert await echoed(second) == b"ping"
        assert not await comes_in(mesh.one)
        assert await comes_in(mesh.two)


@pytest.mark.parametrize("constant", [False, True], ids=["from the Workload API", "a constant identity"])
async def test_a_peer_that_a_source_of_any_kind_knows_is_judged_by_the_files(tmp_path: Path, constant: bool) -> None:
    file = tmp_path / "partner.pem"
    async with guests(file, constant=constant) as mesh:
        assert not await comes_in(mesh.one)
        file.write_bytes(whole())
        async with asyncio.timeout(SECONDS):
            while not await comes_in(mesh.one):
                continue  # each try is a whole handshake


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (None, "there is no CRL of its issuer"),
        (b"", "there is no CRL of its issuer"),
        (b"nonsense", "there is no CRL of its issuer"),
        (whole(valid=-HOUR), "the CRL of its issuer is stale since "),
        (pem(PARTNER.intermediate, valid=LASTING), "there is no CRL of its issuer"),
    ],
    ids=["missing", "empty", "invalid", "stale", "of the leaf's issuer only"],
)
async def test_without_a_fresh_crl_peers_are_refused_unless_a_loud_key_accepts_them(
    tmp_path: Path, content: bytes | None, detail: str
) -> None:
    file = tmp_path / "partner.pem"
    if content is not None:
        file.write_bytes(content)
    async with guests(file) as mesh:
        assert not await comes_in(mesh.one)
        line = await mesh.b.lines.the("PEER_UNTRUSTED")
        assert detail in line["detail"]
    async with guests(file, accept=True) as mesh:
        assert await comes_in(mesh.one)


async def test_a_certificate_on_a_stale_crl_is_refused_also_with_that_key(tmp_path: Path) -> None:
    file = tmp_path / "partner.pem"
    async with guests(file, accept=True) as mesh:
        assert await comes_in(mesh.one)
        file.write_bytes(whole(mesh.svid, valid=-HOUR))
        async with asyncio.timeout(SECONDS):
            while await comes_in(mesh.one):
                continue  # each try is a whole handshake
        assert await comes_in(mesh.two)


async def test_a_file_that_becomes_invalid_or_is_removed_leaves_the_crls_that_it_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "partner.pem"
    async with guests(file) as mesh:
        file.write_bytes(whole(mesh.svid))
        async with asyncio.timeout(SECONDS):
            while not await comes_in(mesh.two):
                continue  # each try is a whole handshake
        file.write_bytes(b"nonsense")
        async with asyncio.timeout(SECONDS):
            while "the CRLs that it had before stay in use" not in caplog.text:
                await comes_in(mesh.two)
        assert (await comes_in(mesh.one), await comes_in(mesh.two)) == (False, True)


async def test_a_changed_file_is_read_beside_the_event_loop(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "partner.pem"
    file.write_bytes(whole())
    files = CrlFiles((CrlKeys(trust_domain=DOMAIN, files=(file,)),), CLOCK)
    following = asyncio.create_task(files.follow())
    file.write_bytes(b"nonsense")
    await until(lambda: bool(caplog.records))
    following.cancel()
    [error] = caplog.records
    assert error.thread != threading.get_ident()
    assert error.getMessage().endswith("; the CRLs that it had before stay in use")


def test_a_pipe_in_place_of_a_file_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe, file = tmp_path / "pipe", tmp_path / "partner.pem"
    os.mkfifo(pipe)
    file.write_bytes(pem(PARTNER.intermediate))
    writer = threading.Thread(target=pipe.write_bytes, args=(pem(PARTNER.intermediate),))
    writer.start()  # it waits for a reader
    try:
        rules = {path: CrlFiles((CrlKeys(trust_domain=DOMAIN, files=(path,)),), CLOCK).rules for path in (pipe, file)}
    finally:
        if writer.is_alive():
            with pipe.open("rb") as reader:
                reader.read()
        writer.join(SECONDS)
    assert [len(rules[path][DOMAIN].crls) for path in (pipe, file)] == [0, 1]
    assert caplog.messages == [
        f"CRL file {pipe} can't be used: wanted a regular file, since it is read again; its peers are refused"
    ]


async def test_peers_of_our_own_domain_need_no_crl_of_the_partners(tmp_path: Path) -> None:
    keys = CrlKeys(trust_domain=DOMAIN, files=(tmp_path / "missing.pem",))
    async with an_app() as app, side_b(app.address, source=Turning(as_b()), crls=(keys,)) as b, side_a(b.inbound) as a:
        assert await comes_in(a)


def test_the_keys_of_a_file_are_read_with_paths_from_its_directory() -> None:
    text = (
        "name: b\nspiffe_id: spiffe://example.org/b\n"
        'inbound: [{listen: "127.0.0.1:1", app: "127.0.0.1:2", allow: []}]\n'
        "crls:\n  - {trust_domain: partner.test, files: [crls/partner.pem], leaves_only: true}\n"
    )
    [found] = parse_config(text, "/etc/mesh/b.yaml").crls
    assert found == CrlKeys(trust_domain=DOMAIN, files=(Path("/etc/mesh/crls/partner.pem"),), leaves_only=True)


def test_a_trust_domain_has_one_section() -> None:
    text = (
        "name: b\nspiffe_id: spiffe://example.org/b\n"
        'inbound: [{listen: "127.0.0.1:1", app: "127.0.0.1:2", allow: []}]\n'
        "crls:\n  - {trust_domain: partner.test, files: [a.pem]}\n  - {trust_domain: partner.test, files: [b.pem]}\n"
    )
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "b.yaml")
    assert caught.value.problems == (
        "b.yaml, line 6: crls[1].trust_domain: wanted each trust domain once, got partner.test again",
    )
