"""A workload's identities as Envoy secrets, by the names that Envoy requests. Pure.

A validation context lists the bundle of each trust domain separately, for the validator that verifies a peer against
the bundle of its own trust domain: one flat list of roots would let a federated domain's CA vouch for our IDs.

Envoy keeps a secret that is no longer sent, and rejects a bundle without roots. So a trust domain without authorities
gets an expired root whose key was discarded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.agent.cache import View
from meshtls.bundle import TrustBundle
from meshtls.proto.envoy import core_pb, tls_pb
from meshtls.proto.wellknown import Any
from meshtls.svid.x509 import X509Svid

__all__ = ["ALL", "DEFAULT", "ROOT", "SECRET_TYPE", "NamedSecret", "secrets_of"]

DEFAULT = "default"
ROOT = "ROOTCA"
ALL = "ALL"
SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105  # a type's name
_VALIDATOR = "envoy.tls.cert_validator.spiffe"


@dataclass(frozen=True, slots=True)
class NamedSecret:
    """One secret of SDS. ``version`` changes exactly when the content does; it reveals nothing of the key."""

    name: str
    version: str
    resource: Any = field(repr=False, compare=False)


def secrets_of(view: View) -> Mapping[str, NamedSecret]:
    """Every secret that this workload may have, by name.

    ``default`` and each SPIFFE ID name certificates with keys; ``ROOTCA`` is our own trust domain's bundle, ``ALL`` all
    bundles, and ``spiffe://<trust domain>`` the bundle of that trust domain.
    """
    secrets = [_certificate(str(svid.spiffe_id), svid) for svid in reversed(view.svids)]
    if view.svids:
        secrets.append(_certificate(DEFAULT, view.svids[0]))
    secrets += [_validation(str(bundle.trust_domain.id), [bundle]) for bundle in view.bundles]
    own = view.bundles.get(view.entries[0].spiffe_id.trust_domain) if view.entries else None
    if own:
        usable = [bundle for bundle in view.bundles if bundle.x509_authorities]
        secrets += [_validation(ROOT, [own]), _validation(ALL, usable or [own])]
    return {secret.name: secret for secret in secrets}


def _certificate(name: str, svid: X509Svid) -> NamedSecret:
    certificate = tls_pb.TlsCertificate(
        certificate_chain=core_pb.DataSource(inline_bytes=svid.chain_pem()),
        private_key=core_pb.DataSource(inline_bytes=svid.key_pem()),
    )
    version = _version(one.public_bytes(Encoding.DER) for one in svid.chain)
    return _named(tls_pb.Secret(name=name, tls_certificate=certificate), version)


def _validation(name: str, bundles: Iterable[TrustBundle]) -> NamedSecret:
    config = tls_pb.SPIFFECertValidatorConfig()
    for bundle in bundles:
        source = core_pb.DataSource(inline_bytes=bundle.to_pem() or _unusable_root())
        config.trust_domains.add(name=str(bundle.trust_domain), trust_bundle=source)
    packed = Any()
    packed.Pack(config)
    validator = core_pb.TypedExtensionConfig(name=_VALIDATOR, typed_config=packed)
    context = tls_pb.CertificateValidationContext(custom_validator_config=validator)
    return _named(tls_pb.Secret(name=name, validation_context=context), _version([packed.value]))


@cache
def _unusable_root() -> bytes:
    """An expired certificate in PEM that is not a CA, and whose key was discarded."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "nobody is trusted")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    ended = builder.not_valid_before(datetime(2000, 1, 1, tzinfo=UTC)).not_valid_after(datetime(2000, 1, 2, tzinfo=UTC))
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    return ended.add_extension(constraints, critical=True).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _named(secret: tls_pb.Secret, version: str) -> NamedSecret:
    resource = Any()
    resource.Pack(secret)
    return NamedSecret(secret.name, version, resource)


def _version(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:32]
