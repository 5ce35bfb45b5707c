"""Identities as Envoy's secrets: their names, content and versions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshtls.agent.cache import View
from meshtls.agent.sds_secrets import NamedSecret, secrets_of
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.proto.envoy import tls_pb
from meshtls.spiffeid import TrustDomain
from tests.support.agent import OURS, entry
from tests.support.authority import make_authority, svid_for

AUTHORITY = make_authority(str(OURS))
PARTNER = make_authority("partner.org").bundle
JWT_ONLY = TrustBundle(TrustDomain("jwt.org"))
WEB, DB = svid_for(AUTHORITY, "/web"), svid_for(AUTHORITY, "/db")
VIEW = View((entry("/web"), entry("/db")), (WEB, DB), BundleSet([PARTNER, AUTHORITY.bundle, JWT_ONLY]))


def unpacked(secret: NamedSecret) -> tls_pb.Secret:
    assert secret.resource.type_url == "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    message = tls_pb.Secret.FromString(secret.resource.value)
    assert message.name == secret.name
    return message


def trusted(secret: NamedSecret) -> dict[str, list[x509.Certificate]]:
    config = unpacked(secret).validation_context.custom_validator_config
    assert config.name == "envoy.tls.cert_validator.spiffe"
    assert config.typed_config.type_url.endswith("/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig")
    domains = tls_pb.SPIFFECertValidatorConfig.FromString(config.typed_config.value).trust_domains
    return {one.name: x509.load_pem_x509_certificates(one.trust_bundle.inline_bytes) for one in domains}


def test_every_name_that_a_workload_may_ask_for_is_there() -> None:
    assert set(secrets_of(VIEW)) == {
        "default",
        "spiffe://example.org/web",
        "spiffe://example.org/db",
        "ROOTCA",
        "ALL",
        "spiffe://example.org",
        "spiffe://partner.org",
        "spiffe://jwt.org",
    }


@pytest.mark.parametrize(("name", "svid"), [("default", WEB), (str(WEB.spiffe_id), WEB), (str(DB.spiffe_id), DB)])
def test_a_certificate_has_its_chain_and_its_key(name: str, svid: object) -> None:
    certificate = unpacked(secrets_of(VIEW)[name]).tls_certificate
    wanted = WEB if svid is WEB else DB
    assert tuple(x509.load_pem_x509_certificates(certificate.certificate_chain.inline_bytes)) == wanted.chain
    key = load_pem_private_key(certificate.private_key.inline_bytes, None)
    assert key.public_key() == wanted.leaf.public_key()


@pytest.mark.parametrize(
    ("name", "domains"),
    [
        ("ROOTCA", {"example.org"}),
        ("ALL", {"example.org", "partner.org"}),
        ("spiffe://example.org", {"example.org"}),
        ("spiffe://partner.org", {"partner.org"}),
    ],
)
def test_a_validation_context_has_each_trust_domains_roots_by_themselves(name: str, domains: set[str]) -> None:
    roots = {"example.org": [*AUTHORITY.bundle.x509_authorities], "partner.org": [*PARTNER.x509_authorities]}
    assert trusted(secrets_of(VIEW)[name]) == {domain: roots[domain] for domain in domains}


def test_an_empty_trust_store_has_a_root_that_vouches_for_nobody() -> None:
    # Without any root, Envoy would keep its previous ones.
    ours, theirs = TrustBundle(OURS), TrustBundle(PARTNER.trust_domain)
    cases = [
        ([AUTHORITY.bundle, theirs], {"spiffe://partner.org": "partner.org"}),
        ([ours, PARTNER], {"ROOTCA": "example.org", "spiffe://example.org": "example.org"}),
        ([ours, theirs], {"ALL": "example.org", "ROOTCA": "example.org", "spiffe://partner.org": "partner.org"}),
    ]
    for bundles, names in cases:
        secrets = secrets_of(replace(VIEW, bundles=BundleSet(bundles)))
        for name, domain in names.items():
            [(said, [root])] = trusted(secrets[name]).items()
            assert said == domain
            assert not root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            assert root.not_valid_after_utc.year == 2000
            assert secrets[name] == secrets_of(replace(VIEW, bundles=BundleSet(bundles)))[name]
    mixed = secrets_of(replace(VIEW, bundles=BundleSet([AUTHORITY.bundle, theirs])))
    assert trusted(mixed["ALL"]) == {"example.org": [*AUTHORITY.bundle.x509_authorities]}


def test_the_first_of_two_svids_of_one_id_has_its_name() -> None:
    again = svid_for(AUTHORITY, "/web")
    secrets = secrets_of(replace(VIEW, svids=(WEB, again)))
    assert secrets[str(WEB.spiffe_id)].version == secrets["default"].version
    assert secrets["default"].version != secrets_of(replace(VIEW, svids=(again,)))["default"].version


def test_a_version_changes_only_with_its_content() -> None:
    before, renewed = secrets_of(VIEW), secrets_of(replace(VIEW, svids=(svid_for(AUTHORITY, "/web"), DB)))
    assert secrets_of(VIEW) == before
    assert {name for name in before if before[name] != renewed[name]} == {"default", "spiffe://example.org/web"}
    unfederated = secrets_of(replace(VIEW, bundles=BundleSet([AUTHORITY.bundle, JWT_ONLY])))
    assert {name for name in before if before[name] != unfederated.get(name)} == {"ALL", "spiffe://partner.org"}


def test_without_identity_there_are_no_secrets_and_no_key_shows_in_a_repr() -> None:
    assert secrets_of(View((), (), BundleSet())) == {}
    assert "PRIVATE" not in repr(secrets_of(VIEW))
