"""CRLs and OCSP of a running server over HTTP, as OpenSSL sees them; certificates point there if configured."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID

from meshtls.address import Address
from meshtls.errors import ConfigError
from meshtls.server.config import parse_config
from meshtls.serverapi.values import Subject, SubjectKind
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial
from tests.support.ports import free_ports
from tests.support.server import TD, ServerUnderTest, config_for, new_csr, started
from tests.support.waiting import SECONDS

WEB, DB = SpiffeId(TD, "/web"), SpiffeId(TD, "/db")


@dataclass
class Site:
    """A server, the SVIDs of two IDs in ``directory``, and OpenSSL."""

    server: ServerUnderTest
    directory: Path
    chains: dict[str, tuple[x509.Certificate, ...]]

    @property
    def crl_url(self) -> str:
        points = self.chains["web"][0].extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        [name] = points[0].full_name or []
        return str(name.value)

    @property
    def ocsp_url(self) -> str:
        access = self.chains["web"][0].extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
        [url] = [one.access_location.value for one in access if one.access_method == AuthorityInformationAccessOID.OCSP]
        return str(url)

    async def openssl(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "openssl",
            *arguments,
            cwd=self.directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        return said.decode()

    async def fetch_crl(self) -> None:
        """Write the CRL that the certificates point to."""
        status, body = await asyncio.to_thread(get, self.crl_url)
        assert status == 200
        crl = x509.load_der_x509_crl(body)
        (self.directory / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))

    async def verified(self, name: str) -> str:
        files = ("-CAfile", "root.pem", "-untrusted", "ca.pem", "-CRLfile", "crl.pem", "-crl_check")
        return await self.openssl("verify", *files, f"{name}.pem")

    async def status(self, name: str) -> str:
        question = ("-issuer", "ca.pem", "-cert", f"{name}.pem", "-CAfile", "root.pem", "-partial_chain")
        said = await self.openssl("ocsp", *question, "-trust_other", "-VAfile", "ca.pem", "-url", self.ocsp_url)
        assert "Response verify OK" in said
        return said


def get(url: str) -> tuple[int, bytes]:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=SECONDS)) as connection:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        return response.status, response.read()


@asynccontextmanager
async def site(directory: Path) -> AsyncIterator[Site]:
    [port] = free_ports(1)
    address = Address("127.0.0.1", port)
    config = config_for(directory, revocation_listen=address, revocation_url=f"http://{address}")
    async with started(config) as server:
        assert server.running.revocation_port == port
        chains = {one.segments[0]: await server.admin.mint_x509(one, new_csr()) for one in (WEB, DB)}
        for name, chain in chains.items():
            (directory / f"{name}.pem").write_bytes(chain[0].public_bytes(Encoding.PEM))
            (directory / "ca.pem").write_bytes(chain[1].public_bytes(Encoding.PEM))
        (directory / "root.pem").write_bytes((await server.admin.bundle()).to_pem())
        yield Site(server, directory, chains)


async def test_openssl_follows_the_pointers_of_a_certificate_before_and_after_its_revocation(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        await there.fetch_crl()
        assert await there.verified("web") == "web.pem: OK\n"
        assert "web.pem: good" in await there.status("web")
        serial = format_serial(there.chains["web"][0])
        await there.server.admin.revoke(Subject(SubjectKind.SERIAL, serial), "key_compromise")
        await there.fetch_crl()
        assert "certificate revoked" in await there.verified("web")
        assert await there.verified("db") == "db.pem: OK\n"
        said = await there.status("web")
        assert ("web.pem: revoked" in said, "Reason: keyCompromise" in said) == (True, True)
        assert "db.pem: good" in await there.status("db")


async def test_an_issuer_that_is_not_this_servers_has_no_crl(tmp_path: Path) -> None:
    async with site(tmp_path) as there:
        base = there.crl_url.rpartition("/")[0]
        assert (await asyncio.to_thread(get, f"{base}/{'0' * 64}.crl"))[0] == 404
        assert (await asyncio.to_thread(get, there.crl_url))[0] == 200


async def test_without_the_key_nothing_is_served_and_certificates_point_nowhere(tmp_path: Path) -> None:
    async with started(config_for(tmp_path)) as server:
        assert server.running.revocation_port is None
        leaf = (await server.admin.mint_x509(WEB, new_csr()))[0]
        kinds = {type(one.value) for one in leaf.extensions}
        assert not kinds & {x509.CRLDistributionPoints, x509.AuthorityInformationAccess}


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("{url: 'http://ca.test'}", "revocation.url: wanted no such key without listen: nothing would answer there"),
        (
            "{listen: '127.0.0.1:1', url: 'https://ca.test'}",
            "revocation.url: wanted a URL such as http://ca.example.org:8087, got 'https://ca.test'",
        ),
        (
            "{listen: '127.0.0.1:1', url: 'http://ca.test/below'}",
            "revocation.url: wanted a URL such as http://ca.example.org:8087, got 'http://ca.test/below'",
        ),
        (
            "{listen: '127.0.0.1:1', url: 'http://[::1'}",
            "revocation.url: wanted a URL such as http://ca.example.org:8087, got 'http://[::1'",
        ),
        (
            "{listen: '127.0.0.1:1', url: 'http://ca.test:99999'}",
            "revocation.url: wanted a URL such as http://ca.example.org:8087, got 'http://ca.test:99999'",
        ),
    ],
)
def test_a_url_that_clients_could_not_use_is_refused(keys: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("server.yaml", f"trust_domain: example.org\nrevocation: {keys}\n")
    assert caught.value.problems == (f"server.yaml, line 2: {problem}",)
