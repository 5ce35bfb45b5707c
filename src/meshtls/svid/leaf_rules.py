"""The ONE list of rules for a leaf X509-SVID, and the shorter one for the certificates that sign it.

Issuing, parsing and verifying all call ``leaf_violations``. A rule looks at one certificate and returns what is wrong,
in words, or None (X509-SVID, sections 2 to 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshtls.errors import InvalidSpiffeIdError
from meshtls.spiffeid import SpiffeId

__all__ = ["LEAF_RULES", "SIGNING_RULES", "leaf_violations", "signing_violations", "uri_names"]

T = TypeVar("T", bound=x509.ExtensionType)
Rule = Callable[[x509.Certificate], str | None]


def leaf_violations(certificate: x509.Certificate) -> list[str]:
    """Every leaf rule that this certificate breaks, in the list's order; empty for a good leaf."""
    return _violations(LEAF_RULES, certificate)


def signing_violations(certificate: x509.Certificate) -> list[str]:
    """Every rule for a signing certificate that this one breaks."""
    return _violations(SIGNING_RULES, certificate)


def uri_names(certificate: x509.Certificate) -> list[str]:
    """The URI values of the subject alternative name, [] where there is none."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []


def _violations(rules: tuple[Rule, ...], certificate: x509.Certificate) -> list[str]:
    try:
        _ = certificate.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        return [f"its extensions can't be read: {error}"]
    return [broken for rule in rules if (broken := rule(certificate))]


def _extension(certificate: x509.Certificate, kind: type[T]) -> x509.Extension[T] | None:
    # By exact type: isinstance asks the abstract base class about every extension that it is not, a fifth of the
    # time that these rules take at each issuance and each handshake.
    for one in certificate.extensions:
        if type(one.value) is kind:
            return cast("x509.Extension[T]", one)
    return None


def _one_uri(certificate: x509.Certificate) -> str | None:
    count = len(uri_names(certificate))
    return None if count == 1 else f"wanted exactly one URI SAN, got {count}"


def _valid_id(certificate: x509.Certificate) -> str | None:
    try:
        ids = [SpiffeId.parse(uri) for uri in uri_names(certificate)[:1]]
    except InvalidSpiffeIdError as error:
        return str(error)
    return "wanted a SPIFFE ID with a path, got a trust domain's own" if ids and not ids[0].path else None


def _not_a_ca(certificate: x509.Certificate) -> str | None:
    constraints = _extension(certificate, x509.BasicConstraints)
    return "a CA certificate can't authenticate a workload" if constraints and constraints.value.ca else None


def _key_usage(certificate: x509.Certificate) -> str | None:
    usage = _extension(certificate, x509.KeyUsage)
    if usage is None:
        return "wanted the keyUsage extension, got none"
    if not usage.critical:
        return "wanted keyUsage marked critical"
    if not usage.value.digital_signature:
        return "wanted digitalSignature in keyUsage"
    wrong = [name for name, on in _signing_usages(usage.value) if on]
    return f"wanted no {' or '.join(wrong)} in a leaf's keyUsage" if wrong else None


def _signing_usages(usage: x509.KeyUsage) -> list[tuple[str, bool]]:
    return [("keyCertSign", usage.key_cert_sign), ("cRLSign", usage.crl_sign)]


def _extended_key_usage(certificate: x509.Certificate) -> str | None:
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is None:
        return None
    wanted = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}
    missing = [name for name, oid in wanted.items() if oid not in usage.value]
    return f"wanted {' and '.join(missing)} in extendedKeyUsage" if missing else None


def _critical_san(certificate: x509.Certificate) -> str | None:
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None or names.critical or len(certificate.subject) > 0:
        return None
    return "wanted the subject alternative name marked critical, since the subject is empty"


def _is_a_ca(certificate: x509.Certificate) -> str | None:
    constraints = _extension(certificate, x509.BasicConstraints)
    return None if constraints and constraints.value.ca else "wanted a CA certificate as a signer"


def _may_sign(certificate: x509.Certificate) -> str | None:
    usage = _extension(certificate, x509.KeyUsage)
    return None if usage and usage.value.key_cert_sign else "wanted keyCertSign in a signer's keyUsage"


def _signer_id(certificate: x509.Certificate) -> str | None:
    try:
        ids = [SpiffeId.parse(uri) for uri in uri_names(certificate) if uri[:9].lower() == "spiffe://"]
    except InvalidSpiffeIdError as error:
        return str(error)
    with_path = [str(spiffe_id) for spiffe_id in ids if spiffe_id.path]
    return f"wanted no path in a signer's SPIFFE ID, got {', '.join(with_path)}" if with_path else None


LEAF_RULES: tuple[Rule, ...] = (
    _one_uri,
    _valid_id,
    _not_a_ca,
    _key_usage,
    _extended_key_usage,
    _critical_san,
)
SIGNING_RULES: tuple[Rule, ...] = (_is_a_ca, _may_sign, _signer_id)
