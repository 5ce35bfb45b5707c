"""A server with its CA's keys in a PKCS#11 token: what they sign, what its files have, and a token that is gone."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from meshtls.bundle import BundleSet
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.revocation.building import CrlEntry, build_crl
from meshtls.revocation.ocsp import OCSP_GOOD, OcspSigner, build_response, parse_request
from meshtls.server.config import parse_config
from meshtls.server.keys import opened_signing
from meshtls.server.settings import ServerConfig
from meshtls.spiffeid import SpiffeId
from meshtls.svid import jwt
from meshtls.svid.verify import verify_peer
from tests.support.agent import eventually
from tests.support.authority import make_authority
from tests.support.clock import ManualClock
from tests.support.server import TD, new_csr, own_authority, started
from tests.support.softhsm import MODULE, SoftHsm, soft_hsm

WEB = SpiffeId(TD, "/web")
HOUR = timedelta(hours=1)


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    with soft_hsm(tmp_path / "hsm") as found:
        yield found


def config_with(hsm: SoftHsm, *, everything: bool = True, more: str = "") -> ServerConfig:
    (hsm.directory / "server").mkdir(0o700, exist_ok=True)
    options = ", intermediates: true, jwt_keys: true" if everything else ""
    return parse_config(
        "server.yaml",
        f"trust_domain: {TD}\nbind_port: 0\ndata_dir: {hsm.directory / 'server'}\n"
        f"key_manager: {{pkcs11: {{module: {MODULE}, token_label: mesh, pin_file: {hsm.pin_file}{options}}}}}\n{more}",
    )


def private_keys(hsm: SoftHsm) -> int:
    return hsm.objects().count("Private Key Object")


@pytest.mark.parametrize("kind", ["ec-p256", "ec-p384", "rsa-2048"])
def test_everything_that_a_ca_signs_is_signed_by_the_token(hsm: SoftHsm, kind: str) -> None:
    config, clock = config_with(hsm, more=f"ca_key_type: {kind}\njwt_key_type: {kind}\n"), ManualClock()
    now = clock.now()
    with opened_signing(config, clock) as (signing, _):
        bundle = own_authority(signing).bundle
        chain = signing.x509(WEB, new_csr(), HOUR).chain
        peer = verify_peer([one.public_bytes(Encoding.DER) for one in chain], BundleSet([bundle]), now)
        assert peer.spiffe_id == WEB

        token = signing.jwt(WEB, ["db"], HOUR).svid.token
        public = signing.jwt_key.private_key.public_key()
        with_key = replace(bundle, jwt_authorities={signing.jwt_key.kid: public})
        assert jwt.parse_and_validate(token, BundleSet([with_key]), "db", now).spiffe_id == WEB

        issuer = own_authority(signing).intermediate
        entries = [CrlEntry(chain[0].serial_number, now)]
        der = build_crl(issuer.certificate, issuer.private_key, entries, number=1, now=now, next_update=now + HOUR)
        crl = x509.load_der_x509_crl(der)
        assert crl.is_signature_valid(check := issuer.private_key.public_key())
        assert [one.serial_number for one in crl] == [chain[0].serial_number]

        asked = ocsp.OCSPRequestBuilder().add_certificate(chain[0], chain[1], hashes.SHA1()).build()  # noqa: S303
        query = parse_request(asked.public_bytes(Encoding.DER))
        signer = OcspSigner(issuer.certificate, issuer.certificate, issuer.private_key)
        response = ocsp.load_der_ocsp_response(build_response(query, signer, OCSP_GOOD, now, now + HOUR))
        assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
        assert check == issuer.certificate.public_key()
    assert private_keys(hsm) == 3
    secret = [path.name for path in config.keys_dir.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
    assert secret == ["log.pem"]


def test_only_roots_are_in_the_token_unless_the_file_says_otherwise(hsm: SoftHsm) -> None:
    config = config_with(hsm, everything=False)
    with opened_signing(config, ManualClock()) as (signing, _):
        signing.x509(WEB, new_csr(), HOUR)
    assert private_keys(hsm) == 1
    secret = {path.name for path in config.keys_dir.iterdir() if b"PRIVATE KEY" in path.read_bytes()}
    assert secret == {"intermediate.pem", "jwt.pem", "log.pem"}


def test_a_second_start_signs_with_the_same_keys(hsm: SoftHsm) -> None:
    config, clock = config_with(hsm), ManualClock()
    with opened_signing(config, clock) as (signing, _):
        before = signing.authority.id, own_authority(signing).intermediate.certificate, signing.jwt_key.kid
    with opened_signing(config, clock) as (signing, _):
        assert (signing.authority.id, own_authority(signing).intermediate.certificate, signing.jwt_key.kid) == before
        signing.x509(WEB, new_csr(), HOUR)
    assert private_keys(hsm) == 3


def test_a_server_that_is_not_told_of_its_token_does_not_start(hsm: SoftHsm) -> None:
    config, clock = config_with(hsm), ManualClock()
    with opened_signing(config, clock):
        pass
    without = parse_config("f", f"trust_domain: {TD}\ndata_dir: {config.data_dir}\n")
    with pytest.raises(ConfigError) as refused, opened_signing(without, clock):
        pass
    assert str(refused.value) == (
        f"{config.keys_dir / 'root.pem'}: its private key is elsewhere; configure key_manager.pkcs11 if it is in a"
        " token, offline_root if it is the key of an offline root"
    )
    with opened_signing(config, clock):
        pass


def test_keys_that_are_not_used_any_more_leave_the_token(hsm: SoftHsm) -> None:
    config, clock = config_with(hsm), ManualClock()
    with opened_signing(config, clock) as (signing, keys):
        for _ in range(4):  # each renewal keeps the intermediate before it, for CRLs
            clock.advance(13 * 3600)
            signing.x509(WEB, new_csr(), HOUR)
        assert private_keys(hsm) == 4
        first, second = signing.authority.id, keys.new("x509")
        keys.new("jwt")
        assert private_keys(hsm) == 7
        keys.drop("x509", first)
        keys.drop("jwt", signing.jwt_key.kid)
        assert list(keys.x509) == [second]
        assert private_keys(hsm) == 3
    with opened_signing(config, clock) as (signing, keys):
        assert list(keys.x509) == [second]


async def test_an_intermediate_in_a_file_goes_on_signing_while_the_root_can_not_renew_it(
    hsm: SoftHsm, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    with opened_signing(config_with(hsm, everything=False), clock) as (signing, _):
        present = own_authority(signing).intermediate
        clock.advance(13 * 3600)
        hsm.pull()
        assert signing.x509(WEB, new_csr(), HOUR).chain[1] == present.certificate
        assert f"could not be renewed: token mesh of {MODULE}: wanted a token that can be used" in caplog.text
        hsm.plug()
        await eventually(lambda: signing.x509(WEB, new_csr(), HOUR).chain[1] != present.certificate)


async def test_a_running_server_says_that_its_token_is_gone_and_signs_again_once_it_is_back(hsm: SoftHsm) -> None:
    async with started(config_with(hsm)) as server:
        assert await server.admin.mint_x509(WEB, new_csr(), HOUR, ())
        hsm.pull()
        with pytest.raises(LocalIdentityError, match=f"token mesh of {MODULE}: wanted a token that can be used, got "):
            await server.admin.mint_x509(WEB, new_csr(), HOUR, ())
        health = await server.admin.health()
        assert health.ready
        [trouble] = health.troubles
        assert re.fullmatch(rf"no X509-SVID is signed since \S+Z: token mesh of {MODULE}: wanted a token .*", trouble)
        hsm.plug()

        async def signs() -> bool:
            try:
                return bool(await server.admin.mint_x509(WEB, new_csr(), HOUR, ()))
            except LocalIdentityError:
                return False

        await eventually(signs)
        assert (await server.admin.health()).troubles == ()


def test_errors_that_a_token_s_module_leaves_in_openssl_are_not_taken_for_errors_of_tls(hsm: SoftHsm) -> None:
    program = """
import ssl, sys
from pathlib import Path
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.keys.pkcs11 import Pin, Token
Token(Path(sys.argv[1]), "mesh", Pin(Path(sys.argv[2]))).generate(KeyAlgorithm.P256, "k")
ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=bytes.fromhex(sys.argv[3]))
"""
    root = make_authority("example.org").root.public_bytes(Encoding.DER)
    # In a process of its own, since the module leaves them when it is initialized.
    command = [sys.executable, "-c", program, str(MODULE), str(hsm.pin_file), root.hex()]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
