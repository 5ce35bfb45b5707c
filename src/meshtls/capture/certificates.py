"""The certificates in a Certificate message, field by field, with the SPIFFE rules that each keeps or breaks. Pure.

The decoder of TLS leaves a certificate as bytes. Here they become fields: the parts of its DER (RFC 5280, section 4.1)
with their offsets in the message, and after them, without bytes of their own, each rule of ``svid/leaf_rules.py``.
Nothing is verified: a certificate that keeps every rule may still be signed by anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from meshtls.svid.der import INTEGER, SEQUENCE, elements
from meshtls.svid.description import Description, describe
from meshtls.svid.leaf_rules import LEAF_RULES, SIGNING_RULES, rulings
from meshtls.wire.tls.fields import Field

__all__ = ["KEPT", "RULES", "certificates_in", "with_certificates"]

#: Certificates of one message that are decoded, and extensions of one certificate.
_MOST_CERTIFICATES, _MOST_EXTENSIONS = 16, 64
#: The name of the field with the rules, and the value of a rule's field that is kept; that of another is BROKEN.
RULES, KEPT, BROKEN = "SPIFFE rules", "kept", "broken"
_VERSION, _EXTENSIONS = 0xA0, 0xA3
_UNIQUE_IDS: Mapping[int, str] = {0x81: "issuerUniqueID", 0x82: "subjectUniqueID"}
#: The parts of a TBSCertificate after its version, and what a Description calls them.
_PARTS = (
    ("serialNumber", "serial"),
    ("signature", "signature"),
    ("issuer", "issuer"),
    ("validity", ""),
    ("subject", "subject"),
    ("subjectPublicKeyInfo", "key"),
)
#: Extensions by their object identifiers (RFC 5280, section 4.2), and what a Description calls them.
_EXTENSION_NAMES: Mapping[bytes, tuple[str, str]] = {
    bytes.fromhex(oid): names
    for oid, names in {
        "551d0e": ("subjectKeyIdentifier", "key_id"),
        "551d0f": ("keyUsage", "key_usage"),
        "551d11": ("subjectAltName", "names"),
        "551d12": ("issuerAltName", ""),
        "551d13": ("basicConstraints", "basic_constraints"),
        "551d1e": ("nameConstraints", ""),
        "551d1f": ("cRLDistributionPoints", "crl_at"),
        "551d20": ("certificatePolicies", ""),
        "551d23": ("authorityKeyIdentifier", "issuer_key_id"),
        "551d25": ("extKeyUsage", "extended_key_usage"),
        "2b06010505070101": ("authorityInfoAccess", ""),
        "2b06010505070118": ("tlsFeature", ""),
    }.items()
}


def certificates_in(message: Field) -> list[Field]:
    """The fields of a Certificate message, of TLS 1.2 or 1.3, that have a certificate each; the leaf's comes first."""
    listed = message.child("certificate_list")
    items = listed.children if listed is not None else ()
    return [data for item in items if (data := item if item.name == "cert_data" else item.child("cert_data"))]


def with_certificates(message: Field) -> Field:
    """The tree of a Certificate message with the fields of its certificates. Others come back as they are.

    Never raises: what is wrong with a certificate is in its fields.
    """
    decoded = {
        one.offset: _decoded(one, place == 0)
        for place, one in enumerate(certificates_in(message)[:_MOST_CERTIFICATES])
        if isinstance(one.value, bytes)
    }
    return _replaced(message, decoded) if decoded else message


def _replaced(field: Field, decoded: Mapping[int, Field]) -> Field:
    if field.name == "cert_data" and field.offset in decoded:
        return decoded[field.offset]
    return field._replace(children=tuple(_replaced(one, decoded) for one in field.children))


def _decoded(data: Field, is_leaf: bool) -> Field:
    der = data.value if isinstance(data.value, bytes) else b""
    start = data.end - len(der)
    told = describe(der)
    length = Field("length", data.offset, start - data.offset, len(der))
    try:
        certificate = _sequence("Certificate", der, start, partial(_certificate, told=told))
    except ValueError as error:
        certificate = Field("Certificate", start, len(der), der, error=f"byte {start}: it is no DER: {error}")
    rules = _rules(told, data.end, is_leaf)
    names = told.fields.get("names") or told.fields.get("subject") or ""
    return data._replace(value=None, text=_text(names), children=(length, certificate, rules))


def _rules(told: Description, end: int, is_leaf: bool) -> Field:
    """One field for each rule, without bytes."""
    judged: list[tuple[str, str, str | None]]
    if told.certificate is None:
        judged = [("a certificate", "RFC 5280, section 4.1", told.unreadable)]
    else:
        found = rulings(LEAF_RULES if is_leaf else SIGNING_RULES, told.certificate)
        judged = [(rule.text, rule.section, broken) for rule, broken in found]
    fields = tuple(
        Field(text, end, 0, KEPT if broken is None else BROKEN, section if broken is None else f"{section}: {broken}")
        for text, section, broken in judged
    )
    kept = sum(one.value == KEPT for one in fields)
    whose = "a leaf" if is_leaf else "a signing certificate"
    return Field(RULES, end, 0, None, f"{kept} of {len(fields)} rules for {whose} are kept", fields)


# -- DER --

_Parts = Callable[[bytes, int], Iterator[Field]]


def _sequence(name: str, whole: bytes, start: int, parts: _Parts, text: str = "") -> Field:
    """A field of one element, made of its ``header`` and of the ``parts`` of its content. Raises ValueError."""
    (found,) = _located(whole, start)
    _, content, _, at = found
    header = Field("header", start, at - start, whole[: at - start])
    return Field(name, start, len(whole), None, text, (header, *parts(content, at)))


def _located(data: bytes, start: int) -> list[tuple[int, bytes, bytes, int]]:
    """The elements of ``data``: tag, content, the whole, and where the content starts. Raises ValueError."""
    found = []
    for tag, content, whole in elements(data):
        found.append((tag, content, whole, start + len(whole) - len(content)))
        start += len(whole)
        if len(found) > _MOST_EXTENSIONS:
            raise ValueError(f"more than {_MOST_EXTENSIONS} elements")
    return found


def _leaf(name: str, content_start: int, content: bytes, whole: bytes, text: str = "") -> Field:
    return Field(name, content_start + len(content) - len(whole), len(whole), whole, text)


def _certificate(content: bytes, start: int, told: Description) -> Iterator[Field]:
    found = _located(content, start)
    if [tag for tag, *_ in found[:2]] != [SEQUENCE, SEQUENCE] or len(found) != 3:
        raise ValueError("wanted a TBSCertificate, an algorithm and a signature")
    _, tbs, whole, at = found[0]
    yield _sequence("tbsCertificate", whole, at + len(tbs) - len(whole), partial(_tbs, told=told))
    for name, words, (_, part, element, at) in zip(
        ("signatureAlgorithm", "signatureValue"), (_text(told.fields.get("signature", "")), ""), found[1:], strict=True
    ):
        yield _leaf(name, at, part, element, words)


def _tbs(content: bytes, start: int, told: Description) -> Iterator[Field]:
    found = _located(content, start)
    if found and found[0][0] == _VERSION:
        _, part, whole, at = found.pop(0)
        yield _leaf("version", at, part, whole, f"v{part[-1] + 1}" if part else "")
    tags = [tag for tag, *_ in found[: len(_PARTS)]]
    if tags != [INTEGER, *[SEQUENCE] * (len(_PARTS) - 1)]:
        raise ValueError("wanted a serial number and five SEQUENCEs in a TBSCertificate")
    for (name, described), (_, part, whole, at) in zip(_PARTS, found, strict=False):
        if name == "validity":
            yield _sequence(name, whole, at + len(part) - len(whole), partial(_validity, told=told))
        else:
            yield _leaf(name, at, part, whole, _text(told.fields.get(described, "")))
    for tag, part, whole, at in found[len(_PARTS) :]:
        if tag == _EXTENSIONS:
            yield _sequence("extensions", whole, at + len(part) - len(whole), partial(_extensions, told=told))
        else:
            yield _leaf(_UNIQUE_IDS.get(tag, f"[{tag:#04x}]"), at, part, whole)


def _validity(content: bytes, start: int, told: Description) -> Iterator[Field]:
    found = _located(content, start)
    if len(found) != 2:
        raise ValueError("wanted two times")
    for (name, described), (_, part, whole, at) in zip(
        (("notBefore", "not_before"), ("notAfter", "not_after")), found, strict=True
    ):
        yield _leaf(name, at, part, whole, _text(told.fields.get(described, "")))


def _extensions(content: bytes, start: int, told: Description) -> Iterator[Field]:
    yield _sequence("Extensions", content, start, partial(_each_extension, told=told))


def _each_extension(content: bytes, start: int, told: Description) -> Iterator[Field]:
    for _, part, whole, at in _located(content, start):
        oid = next((one for _, one, _ in elements(part)), b"")
        name, described = _EXTENSION_NAMES.get(oid, (_dotted(oid), ""))
        yield _leaf(name, at, part, whole, _text(told.fields.get(described, "")))


def _dotted(oid: bytes) -> str:
    """An object identifier with its dots (X.690, section 8.19)."""
    numbers, number = [], 0
    for byte in oid[:64]:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    if not numbers:
        return "extension"
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
