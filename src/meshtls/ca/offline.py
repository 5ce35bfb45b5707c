"""The acts of an operator with an offline root: making it, requesting a CA below it, and signing that request. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.ca.csr import verified_csr
from meshtls.ca.profile import CaSubject, Signer, subordinate_certificate
from meshtls.errors import ConfigError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.revocation.building import hash_for
from meshtls.spiffeid import TrustDomain
from meshtls.svid.leaf_rules import extension_of, signing_violations
from meshtls.svid.name_constraints import constraint_violation
from meshtls.svid.x509 import PrivateKey, format_moment

__all__ = ["ca_request", "read_certificates", "sign_request"]


def ca_request(trust_domain: TrustDomain, key: PrivateKey) -> bytes:
    """A PKCS#10 request in PEM for a CA of this trust domain, which it names."""
    name = x509.UniformResourceIdentifier(str(trust_domain.id))
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .sign(key, hash_for(key))
    )
    return request.public_bytes(Encoding.PEM)


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """One or more certificates. Raises ConfigError."""
    try:
        found = x509.load_pem_x509_certificates(pem)
        _ = [(one.subject, one.issuer, one.public_key()) for one in found]
    except PARSE_ERRORS as error:
        raise ConfigError(f"wanted certificates in PEM: {error}") from error
    return found


def sign_request(
    csr: bytes,
    issuer: Signer,
    trust_domain: TrustDomain,
    now: datetime,
    ttl: timedelta,
    *,
    path_length: int,
    constrained: bool = True,
    named: CaSubject = CaSubject(),
) -> x509.Certificate:
    """The certificate of a CA of this trust domain for the key of the request.

    ``path_length``: how many CAs may be below it. If ``constrained``, it can't issue for other trust domains.

    Raises RequestError for a request that is invalid or names another trust domain, ConfigError for an issuer that
    can't issue this.
    """
    request, public_key = verified_csr(csr)
    names = _names_in(request)
    if names not in ([], [str(trust_domain.id)]):
        raise RequestError(f"CSR: wanted one for {trust_domain.id}, got one for {', '.join(names)}")
    ca = issuer.certificate
    if ca.public_key() != issuer.private_key.public_key():
        raise ConfigError(
            "the private key does not belong to the issuer's certificate; give the key of that certificate"
        )
    if broken := signing_violations(ca):
        raise ConfigError(f"the issuer can't sign a CA: {'; '.join(broken)}")
    if not ca.not_valid_before_utc <= now < ca.not_valid_after_utc:
        raise ConfigError(
            f"the issuer is valid from {format_moment(ca.not_valid_before_utc)} to"
            f" {format_moment(ca.not_valid_after_utc)}; our clock says {format_moment(now)}"
        )
    not_after = now + ttl
    if not_after > ca.not_valid_after_utc:
        raise ConfigError(
            f"wanted a CA until {format_moment(not_after)}, but its issuer ends at"
            f" {format_moment(ca.not_valid_after_utc)}; give a shorter --ttl"
        )
    _check_constraints((ca, *issuer.above), trust_domain, path_length)
    return subordinate_certificate(
        trust_domain, public_key, issuer, now, ttl, path_length=path_length, constrained=constrained, named=named
    )


def _check_constraints(path: Sequence[x509.Certificate], trust_domain: TrustDomain, path_length: int) -> None:
    """``path``: the issuer and what is above it."""
    for below, one in enumerate(path):
        basic = extension_of(one, x509.BasicConstraints)
        most = basic.value.path_length if basic else None
        if most is not None and path_length + 1 + below > most:
            raise ConfigError(
                f"the issuer allows {most - below} CAs in a path below it, and this one needs {path_length + 1}:"
                " give a smaller --path-length, or another issuer"
            )
        constraints = extension_of(one, x509.NameConstraints)
        name = x509.UniformResourceIdentifier(str(trust_domain.id))
        wrong = constraint_violation(constraints.value, [name]) if constraints else None
        if wrong:
            raise ConfigError(f"the issuer can't sign for trust domain {trust_domain}: it would have {wrong}")


def _names_in(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except PARSE_ERRORS as error:
        raise RequestError(f"CSR: its extensions can't be read: {error}") from error
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))
