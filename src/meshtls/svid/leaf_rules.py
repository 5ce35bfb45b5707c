"""The ONE list of rules for a leaf X509-SVID, and the shorter one for the certificates that sign it.

Issuing, parsing and verifying all call ``leaf_violations``; ``rulings`` is the same list for people, rule by rule. A
rule looks at one certificate and returns what is wrong, in words, or None (X509-SVID, sections 2 to 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar, cast

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from meshtls.errors import InvalidSpiffeIdError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.spiffeid import SpiffeId
from meshtls.svid.keys import key_violation
from meshtls.svid.presented import spki_of

__all__ = [
    "LEAF_RULES",
    "READABLE_RULES",
    "SIGNING_RULES",
    "Rule",
    "extension_of",
    "leaf_violations",
    "readable_violations",
    "rulings",
    "signing_violations",
    "uri_names",
]

T = TypeVar("T", bound=x509.ExtensionType)
_Broken = Callable[[x509.Certificate], str | None]


class Rule(NamedTuple):
    """One rule that a leaf has to keep. ``broken`` returns what is wrong with a certificate; ``text`` is what
    ``section`` of a standard wants.
    """

    broken: _Broken
    text: str
    section: str


def _rule(text: str, section: str) -> Callable[[_Broken], Rule]:
    return lambda broken: Rule(broken, text, section)


def leaf_violations(certificate: x509.Certificate) -> list[str]:
    """Every leaf rule that this certificate breaks, in the list's order; empty for a good leaf."""
    return _violations(LEAF_RULES, certificate)


def signing_violations(certificate: x509.Certificate) -> list[str]:
    """Every rule for a signing certificate that this one breaks."""
    return _violations(SIGNING_RULES, certificate)


def readable_violations(certificate: x509.Certificate) -> list[str]:
    """Every rule that holds for any certificate, of an SVID or not, that this one breaks."""
    return _violations(READABLE_RULES, certificate)


def uri_names(certificate: x509.Certificate) -> list[str]:
    """The URI values of the subject alternative name, [] where there is none."""
    names = extension_of(certificate, x509.SubjectAlternativeName)
    return names.value.get_values_for_type(x509.UniformResourceIdentifier) if names else []


def rulings(rules: tuple[Rule, ...], certificate: x509.Certificate) -> list[tuple[Rule, str | None]]:
    """Each rule with what is wrong by it, None where it is kept. If nothing else can be read, that rule alone."""
    unreadable = _readable.broken(certificate)
    if unreadable is not None:
        return [(_readable, unreadable)]
    return [(_readable, None), *((rule, rule.broken(certificate)) for rule in rules)]


def _violations(rules: tuple[Rule, ...], certificate: x509.Certificate) -> list[str]:
    unreadable = _readable.broken(certificate)
    if unreadable is not None:
        return [unreadable]
    return [broken for rule in rules if (broken := rule.broken(certificate))]


@_rule("names and extensions that can be read", "RFC 5280, section 4.1")
def _readable(certificate: x509.Certificate) -> str | None:
    try:
        _ = certificate.extensions
    except PARSE_ERRORS as error:
        return f"its extensions can't be read: {error}"
    try:
        _ = certificate.subject, certificate.issuer
    except PARSE_ERRORS as error:
        return f"its names can't be read: {error}"
    return None


def extension_of(certificate: x509.Certificate, kind: type[T]) -> x509.Extension[T] | None:
    """Its extension of this kind, None where there is none."""
    # By exact type: isinstance with an abstract base class is slow for extensions that don't match, a fifth of the
    # time that these rules take at each issuance and each handshake.
    for one in certificate.extensions:
        if type(one.value) is kind:
            return cast("x509.Extension[T]", one)
    return None


@_rule("exactly one URI SAN", "X509-SVID, section 2")
def _one_uri(certificate: x509.Certificate) -> str | None:
    count = len(uri_names(certificate))
    return None if count == 1 else f"wanted exactly one URI SAN, got {count}"


@_rule("a SPIFFE ID with a path", "X509-SVID, section 3.1")
def _valid_id(certificate: x509.Certificate) -> str | None:
    try:
        ids = [SpiffeId.parse(uri) for uri in uri_names(certificate)[:1]]
    except InvalidSpiffeIdError as error:
        return str(error)
    return "wanted a SPIFFE ID with a path, got a trust domain's own" if ids and not ids[0].path else None


@_rule("not a CA", "X509-SVID, section 4.1")
def _not_a_ca(certificate: x509.Certificate) -> str | None:
    constraints = extension_of(certificate, x509.BasicConstraints)
    return "a CA certificate can't authenticate a workload" if constraints and constraints.value.ca else None


@_rule("critical keyUsage with digitalSignature, without keyCertSign and cRLSign", "X509-SVID, section 4.3")
def _key_usage(certificate: x509.Certificate) -> str | None:
    usage = extension_of(certificate, x509.KeyUsage)
    if usage is None:
        return "wanted the keyUsage extension, got none"
    if not usage.critical:
        return "wanted keyUsage marked critical"
    if not usage.value.digital_signature:
        return "wanted digitalSignature in keyUsage"
    signing = [("keyCertSign", usage.value.key_cert_sign), ("cRLSign", usage.value.crl_sign)]
    wrong = [name for name, on in signing if on]
    return f"wanted no {' or '.join(wrong)} in a leaf's keyUsage" if wrong else None


@_rule("serverAuth and clientAuth, if there is extendedKeyUsage", "X509-SVID, section 4.4")
def _extended_key_usage(certificate: x509.Certificate) -> str | None:
    usage = extension_of(certificate, x509.ExtendedKeyUsage)
    if usage is None:
        return None
    wanted = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}
    missing = [name for name, oid in wanted.items() if oid not in usage.value]
    return f"wanted {' and '.join(missing)} in extendedKeyUsage" if missing else None


@_rule("a critical SAN, if the subject is empty", "RFC 5280, section 4.1.2.6")
def _critical_san(certificate: x509.Certificate) -> str | None:
    names = extension_of(certificate, x509.SubjectAlternativeName)
    if names is None or names.critical or len(certificate.subject) > 0:
        return None
    return "wanted the subject alternative name marked critical, since the subject is empty"


@_rule("a CA", "X509-SVID, section 4.1")
def _is_a_ca(certificate: x509.Certificate) -> str | None:
    constraints = extension_of(certificate, x509.BasicConstraints)
    return None if constraints and constraints.value.ca else "wanted a CA certificate as a signer"


@_rule("keyCertSign in keyUsage", "X509-SVID, section 4.3")
def _may_sign(certificate: x509.Certificate) -> str | None:
    usage = extension_of(certificate, x509.KeyUsage)
    return None if usage and usage.value.key_cert_sign else "wanted keyCertSign in a signer's keyUsage"


@_rule("at most one SPIFFE ID, without a path", "X509-SVID, section 3.2")
def _signer_id(certificate: x509.Certificate) -> str | None:
    try:
        ids = [SpiffeId.parse(uri) for uri in uri_names(certificate) if uri[:9].lower() == "spiffe://"]
    except InvalidSpiffeIdError as error:
        return str(error)
    if len(ids) > 1:
        return f"wanted at most one SPIFFE ID in a signer, got {', '.join(map(str, ids))}"
    with_path = [str(spiffe_id) for spiffe_id in ids if spiffe_id.path]
    return f"wanted no path in a signer's SPIFFE ID, got {', '.join(with_path)}" if with_path else None


@_rule("a public key that TLS 1.3 can use at a known cost", "RFC 8446, section 4.2.3")
def _usable_key(certificate: x509.Certificate) -> str | None:
    try:
        return key_violation(spki_of(certificate))
    except ValueError as error:
        return f"its public key can't be read: {error}"


#: What may be critical: the extensions that these rules, name constraints and policies act on.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.INHIBIT_ANY_POLICY,
    }
)


@_rule("no critical extension that is unknown here", "RFC 5280, section 4.2")
def _understood(certificate: x509.Certificate) -> str | None:
    unknown = [one.oid.dotted_string for one in certificate.extensions if one.critical and one.oid not in _UNDERSTOOD]
    return f"its critical extension {', '.join(unknown)} is not one that is understood here" if unknown else None


READABLE_RULES: tuple[Rule, ...] = (_usable_key, _understood)
LEAF_RULES: tuple[Rule, ...] = (
    _one_uri,
    _valid_id,
    _not_a_ca,
    _key_usage,
    _extended_key_usage,
    _critical_san,
    *READABLE_RULES,
)
# An intermediate's extendedKeyUsage limits what is below it, and a leaf is for both sides.
SIGNING_RULES: tuple[Rule, ...] = (_is_a_ca, _may_sign, _signer_id, _extended_key_usage, *READABLE_RULES)
