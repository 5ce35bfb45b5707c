"""Names of certificates are printed in one form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from meshtls.bundle import TrustBundle
from meshtls.errors import AccessError, BundleError
from meshtls.spiffeid import TrustDomain
from meshtls.svid.name_constraints import constraint_violation
from meshtls.x509_names import name_text
from meshtls.x509pop import check_node_chain
from tests.support import certs


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ([(NameOID.COMMON_NAME, "web"), (NameOID.SERIAL_NUMBER, "17")], "serialNumber=17,CN=web"),
        ([(NameOID.COMMON_NAME, "web")], "CN=web"),
        ([], "(empty)"),
    ],
)
def test_a_serial_number_in_a_name_is_printed_by_its_name(
    attributes: list[tuple[x509.ObjectIdentifier, str]], text: str
) -> None:
    assert name_text(x509.Name([x509.NameAttribute(kind, value) for kind, value in attributes])) == text


#: A line feed that forges a line of a log, ESC for the terminal, and an override that reverses text.
HOSTILE = "x\nERROR: \x1b[2J\u202e"
SHOWN = r"CN=x\nERROR: \x1b[2J\u202e"


def test_characters_that_are_not_printable_are_escaped() -> None:
    assert name_text(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTILE)])) == SHOWN
    assert name_text(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Žluťoučký, kůň")])) == r"CN=Žluťoučký\, kůň"


def no_path() -> None:
    node = certs.leaf(certs.ca(slot="foreign"), subject=HOSTILE)
    check_node_chain([node.der], (certs.ca().certificate,), certs.NOW)


def unwritable() -> None:
    odd = certs.leaf(certs.ca(), subject=HOSTILE, own_key=ed25519.Ed25519PrivateKey.generate())
    TrustBundle(TrustDomain("a.test"), (odd.certificate,)).to_jwks()


def excluded() -> None:
    name = x509.DirectoryName(certs.leaf(certs.ca(), subject=HOSTILE).certificate.subject)
    raise AccessError(constraint_violation(x509.NameConstraints(None, [name]), [name]) or "")


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (no_path, f"x509pop: no path from the node's certificate {SHOWN} to a CA of the configured bundle: "),
        (unwritable, f"CA certificate {SHOWN}: wanted an EC or RSA key: got Ed25519PublicKey"),
        (excluded, f"a name that its issuer's name constraints exclude: '{SHOWN}'"),
    ],
)
def test_a_message_with_a_hostile_name_has_one_line(refused: Callable[[], None], message: str) -> None:
    with pytest.raises((AccessError, BundleError)) as raised:
        refused()
    assert str(raised.value).startswith(message)
    assert str(raised.value).isprintable()
