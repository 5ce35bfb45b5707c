"""The bounds on what a stranger presents: each is kept by a twin that is at the bound, and accepted."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import InvalidSvidError
from meshtls.svid.der import elements, parts
from meshtls.svid.presented import (
    MAX_CERTIFICATE_BYTES,
    MAX_CHAIN,
    MAX_CHAIN_BYTES,
    MAX_EXTENSION_BYTES,
    MAX_EXTENSIONS,
    MAX_NAME_BYTES,
    MAX_NAMES,
    MAX_SUBTREES,
    read_presented,
    spki_of,
)
from tests.support.certs import SERIAL, Extension, Issued, ca, key, leaf

ROOT = ca()
WEB = "spiffe://a.test/web"
GOOD = leaf(ROOT, WEB)


def refusal(*chain: bytes) -> str:
    with pytest.raises(InvalidSvidError) as caught:
        read_presented(chain)
    return str(caught.value)


def sequence(*inside: bytes, tag: int = 0x30) -> bytes:
    content = b"".join(inside)
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes((tag, size) if size < 0x80 else (tag, 0x80 + len(length), *length)) + content


def own(number: int, size: int = 2) -> Extension:
    """An unknown extension."""
    return x509.UnrecognizedExtension(ObjectIdentifier(f"1.3.6.1.4.1.55555.{number}"), bytes(size)), False


def extensions(count: int) -> Issued:
    present = len(GOOD.certificate.extensions)
    return leaf(ROOT, WEB, extra=[own(number) for number in range(count - present)])


def subtrees(count: int) -> Issued:
    names = [x509.DNSName(f"{number}.a") for number in range(count)]
    constraints = x509.NameConstraints(names[: count // 2], names[count // 2 :])
    return leaf(ROOT, WEB, extra=[(constraints, True)])


@pytest.mark.parametrize(
    ("make", "at", "violation"),
    [
        pytest.param(
            lambda count: leaf(ROOT, WEB, dns=[f"{number}.a" for number in range(count - 1)]),
            MAX_NAMES,
            "wanted at most 256 subject alternative names, got more",
            id="names",
        ),
        pytest.param(extensions, MAX_EXTENSIONS, "wanted at most 32 extensions, got more", id="extensions"),
        pytest.param(
            lambda size: leaf(ROOT, WEB, extra=[own(1, size)]),
            MAX_EXTENSION_BYTES,
            "wanted extensions of at most 2048 bytes each, got one of 2049",
            id="the size of an extension",
        ),
        pytest.param(
            subtrees, MAX_SUBTREES, "wanted at most 64 subtrees in name constraints, got more", id="name constraints"
        ),
    ],
)
def test_a_certificate_is_read_up_to_its_bound(make: Callable[[int], Issued], at: int, violation: str) -> None:
    [presented] = read_presented([make(at).der])
    assert presented.certificate == x509.load_der_x509_certificate(presented.der)
    assert refusal(make(at + 1).der) == f"certificate 0 of the chain: {violation}"


def long_name(size: int) -> Issued:
    """A leaf with a subject of that many bytes."""
    attributes: list[x509.NameAttribute[str]] = []
    while (left := size - len(x509.Name(attributes).public_bytes())) > 80:
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, "a" * 50))
    for length in range(1, 64):
        name = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, "a" * length)])
        if len(name.public_bytes()) == size:
            return named(name)
    raise AssertionError(f"no name of {size} bytes, {left} left")


def named(subject: x509.Name) -> Issued:
    template = GOOD.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(template.issuer)
        .public_key(template.public_key())
        .serial_number(template.serial_number)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
    )
    return Issued(builder.sign(ROOT.private_key, hashes.SHA256()), GOOD.key)


def test_a_name_is_read_up_to_its_bound() -> None:
    assert read_presented([long_name(MAX_NAME_BYTES).der])
    message = refusal(GOOD.der, long_name(MAX_NAME_BYTES + 1).der)
    assert message == "certificate 1 of the chain: subject: wanted at most 1024 bytes, got 1025"


def sized(size: int) -> bytes:
    """A leaf of that many bytes or a few less, in extensions of which none is too long."""
    for last in range(1900, 0, -1):
        numbers = range(1, 1 + (size - 500) // 1830)
        made = leaf(ROOT, WEB, extra=[*(own(number, 1800) for number in numbers), own(99, last)]).der
        if len(made) <= size:
            return made
    raise AssertionError(f"no leaf of {size} bytes")


def test_certificates_and_chains_are_read_up_to_their_sizes() -> None:
    largest = sized(MAX_CERTIFICATE_BYTES)
    fits = sized(MAX_CHAIN_BYTES - len(largest))
    assert len(largest) > MAX_CERTIFICATE_BYTES - 16
    assert read_presented([largest, fits])
    message = refusal(sized(MAX_CERTIFICATE_BYTES + 16))
    assert message.startswith(f"certificate 0 of the chain: wanted at most {MAX_CERTIFICATE_BYTES} bytes, got ")
    message = refusal(largest, sized(len(fits) + 16))
    assert message.startswith(f"peer's chain: wanted at most {MAX_CHAIN_BYTES} bytes, got ")
    assert len(read_presented([GOOD.der] * MAX_CHAIN)) == MAX_CHAIN
    assert refusal(*[GOOD.der] * (MAX_CHAIN + 1)) == "peer's chain: wanted 1 to 8 certificates, got more than 8"


def test_bytes_behind_the_end_of_a_certificate_are_refused() -> None:
    assert read_presented([GOOD.der])
    assert refusal(GOOD.der + b"\x05\x00") == (
        "certificate 0 of the chain is no X.509 certificate: 2 bytes behind its end"
    )


def test_a_chain_that_is_too_large_is_refused_before_it_is_read() -> None:
    assert refusal(bytes(MAX_CHAIN_BYTES + 1)) == "peer's chain: wanted at most 12288 bytes, got 12289"


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"\x00", "a positive one, got 00"),
        (b"\x80", "a positive one, got 80"),
        (b"\x01" * 22, "at most 21 bytes, got 22"),
        (b"", "a positive one, got none"),
    ],
    ids=["zero", "negative", "long", "empty"],
)
def test_a_serial_number_that_is_none_is_refused(octets: bytes, message: str) -> None:
    assert refusal(with_serial(octets)) == f"certificate 0 of the chain: serial number: wanted {message}"
    assert read_presented([with_serial(b"\x01")])
    assert read_presented([with_serial(b"\x00" + b"\xff" * 20)])


def with_serial(octets: bytes) -> bytes:
    return with_fields(lambda fields: [fields[0], bytes((2, len(octets))) + octets, *fields[2:]])


def with_fields(change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """A leaf with other fields in its TBSCertificate: version, serial number, ..., key, extensions."""
    [(_, body, _)] = parts(GOOD.der, 0x30)
    (_, tbs, _), *rest = elements(body)
    fields = change([whole for _, _, whole in elements(tbs)])
    return sequence(sequence(*fields), *(whole for _, _, whole in rest))


def with_extension(whole: bytes) -> bytes:
    return with_fields(lambda fields: [*fields[:7], sequence(sequence(whole), tag=0xA3)])


def test_a_certificate_of_version_1_has_no_version_and_no_extensions() -> None:
    [presented] = read_presented([with_fields(lambda fields: fields[1:7])])
    assert presented.certificate.version is x509.Version.v1
    assert (presented.subject, presented.key_id) == (read_presented([GOOD.der])[0].subject, None)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda fields: [], id="none"),
        pytest.param(lambda fields: fields[:6], id="the key missing"),
        pytest.param(lambda fields: [fields[0], *fields[2:]], id="the serial number missing"),
    ],
)
def test_a_certificate_without_its_fields_is_refused(change: Callable[[list[bytes]], list[bytes]]) -> None:
    assert refusal(with_fields(change)) == (
        "certificate 0 of the chain is no X.509 certificate: wanted a serial number, an algorithm, an issuer,"
        " a validity, a subject and a key"
    )


_OID, _OCTETS, _NULL = b"\x06\x03\x2a\x03\x04", b"\x04\x02\x05\x00", b"\x05\x00"


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(sequence(_OID, _OCTETS, tag=0x31), id="no sequence"),
        pytest.param(sequence(), id="empty"),
        pytest.param(sequence(_NULL, _OCTETS), id="no identifier"),
        pytest.param(sequence(_OID, _NULL), id="no octets"),
        pytest.param(sequence(_OID), id="no value"),
    ],
)
def test_an_extension_without_its_identifier_or_its_value_is_refused(broken: bytes) -> None:
    assert read_presented([with_extension(sequence(_OID, _OCTETS))])
    assert refusal(with_extension(broken)) == (
        "certificate 0 of the chain is no X.509 certificate: wanted an extension with an identifier and a value"
    )


def test_the_key_of_a_certificate_is_the_one_in_it() -> None:
    assert spki_of(GOOD.certificate) in GOOD.der
    assert spki_of(GOOD.certificate) == read_presented([GOOD.der])[0].spki


def names(kind: type[x509.DNSName] | None, name: str) -> list[x509.GeneralName]:
    if kind is not None:
        return [kind(name)]
    return [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))]


OTHER_KEY_ID = x509.SubjectKeyIdentifier.from_public_key(key("other").public_key()).digest
OWN_KEY_ID = x509.SubjectKeyIdentifier.from_public_key(key("middle", "P-256").public_key()).digest


@pytest.mark.parametrize(
    ("said", "is_issuer"),
    [
        pytest.param((None, None, None), True, id="nothing"),
        pytest.param((OWN_KEY_ID, None, None), True, id="its key"),
        pytest.param((OTHER_KEY_ID, None, None), False, id="another key"),
        pytest.param((None, names(None, "root"), SERIAL), True, id="its issuer and number"),
        pytest.param((OWN_KEY_ID, names(None, "root"), SERIAL), True, id="all of it"),
        pytest.param((None, names(None, "other"), SERIAL), False, id="another issuer"),
        pytest.param((None, names(None, "root"), SERIAL + 1), False, id="another number"),
        pytest.param((OTHER_KEY_ID, names(None, "root"), SERIAL), False, id="another key beside its issuer and number"),
        pytest.param((None, names(x509.DNSName, "other"), SERIAL), True, id="an issuer by a name of another kind"),
    ],
)
def test_an_issuer_is_what_the_authority_key_identifier_says(
    said: tuple[bytes | None, list[x509.GeneralName] | None, int | None], is_issuer: bool
) -> None:
    middle = ca(ROOT, slot="middle", name="middle")
    below = leaf(middle, WEB, key_ids=False, extra=[(x509.AuthorityKeyIdentifier(*said), False)])
    [web, issuer, root] = read_presented([below.der, middle.der, ROOT.der])
    assert web.names_as_issuer(issuer) == is_issuer
    assert not web.names_as_issuer(root)


def test_an_issuer_without_a_key_identifier_may_be_one_by_its_name() -> None:
    plain = ca(ROOT, slot="middle", name="middle", key_ids=False)
    [web, issuer] = read_presented([leaf(plain, WEB).der, plain.der])
    assert web.authority[0] is not None
    assert web.names_as_issuer(issuer)


@given(st.binary(max_size=300))
def test_any_bytes_are_elements_or_a_value_error(data: bytes) -> None:
    try:
        found = list(elements(data))
    except ValueError:
        return
    assert b"".join(whole for _, _, whole in found) == data
