"""go-spiffe's own endpoint and client of bundles, unmodified, with ours as the other side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.address import Address
from meshtls.bundle import TrustBundle
from meshtls.registration import server_id
from meshtls.server.settings import BundleEndpoint
from meshtls.serverapi.federation import Profile, Relation
from meshtls.spiffeid import SpiffeId
from tests.support.authority import make_authority, svid_for
from tests.support.gospiffe import build_go_peer, go_peer
from tests.support.server import TD, config_for, started

pytestmark = pytest.mark.timeout(900)  # the first build compiles gRPC
ANY_PORT = Address("127.0.0.1", 0)
NO_WORKLOAD_API = "unix:///nowhere"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_go_peer(tmp_path_factory.mktemp("go"))


async def test_go_spiffe_fetches_our_bundle_as_https_spiffe(tmp_path: Path, program: Path) -> None:
    async with started(config_for(tmp_path, bundle_endpoint=BundleEndpoint(ANY_PORT, 60))) as server:
        own = await server.admin.bundle()
        (tmp_path / "own.json").write_text(own.to_jwks())
        url = f"https://127.0.0.1:{server.running.bundle_port}/"
        for endpoint_id, accepted in ((server_id(TD), True), (SpiffeId(TD, "/other"), False)):
            arguments = (str(TD), url, "spiffe", str(endpoint_id), str(tmp_path / "own.json"))
            async with go_peer(program, NO_WORKLOAD_API, "fetch-bundle", *arguments) as peer:
                told = await peer.told()
            assert told["event"] == ("bundle" if accepted else "refused"), told
            if accepted:
                fetched = TrustBundle.from_jwks(TD, told["text"])
                assert fetched.x509_authorities == own.x509_authorities
                assert fetched.jwt_authorities.keys() == own.jwt_authorities.keys()
                assert (fetched.sequence, fetched.refresh_hint) == (own.sequence, 60)


async def test_go_spiffe_fetches_our_bundle_as_https_web(tmp_path: Path, program: Path) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "web.pem", tmp_path / "web.key"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    endpoint = BundleEndpoint(ANY_PORT, 60, certificate, key)
    async with started(config_for(tmp_path, bundle_endpoint=endpoint)) as server:
        url = f"https://127.0.0.1:{server.running.bundle_port}/"
        for roots, event in ((authority, "bundle"), (stranger, "refused")):
            roots.cert_pem.write_to_path(tmp_path / "roots.pem")
            arguments = (str(TD), url, "web", str(tmp_path / "roots.pem"))
            async with go_peer(program, NO_WORKLOAD_API, "fetch-bundle", *arguments) as peer:
                assert (await peer.told())["event"] == event


async def test_our_server_fetches_from_go_spiffes_handler(tmp_path: Path, program: Path) -> None:
    authority = make_authority("go.test")
    svid = svid_for(authority, "/endpoint")
    assert isinstance(svid.private_key, ec.EllipticCurvePrivateKey)
    (tmp_path / "chain.pem").write_bytes(svid.chain_pem())
    (tmp_path / "key.pem").write_bytes(
        svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    document = json.loads(authority.bundle.to_jwks()) | {"spiffe_sequence": 3, "spiffe_refresh_hint": 77}
    (tmp_path / "go.json").write_text(json.dumps(document))
    files = (str(tmp_path / name) for name in ("go.json", "chain.pem", "key.pem"))
    async with (
        started(config_for(tmp_path)) as server,
        go_peer(program, NO_WORKLOAD_API, "serve-bundle", "go.test", *files) as peer,
    ):
        host, port = await peer.address()
        relation = Relation(
            trust_domain=authority.trust_domain,
            url=f"https://{host}:{port}/any/path",
            profile=Profile.HTTPS_SPIFFE,
            endpoint_id=SpiffeId(authority.trust_domain, "/endpoint"),
        )
        await server.admin.create_relation(relation, authority.bundle)
        shown = await server.admin.refresh_relation(authority.trust_domain)
        assert (shown.failure, shown.bundle is not None) == ("", True)
        [bundle] = await server.admin.bundles()
        assert bundle.x509_authorities == authority.bundle.x509_authorities
        assert (bundle.sequence, bundle.refresh_hint) == (3, 77)
