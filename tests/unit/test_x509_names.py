"""Names of certificates are printed in one form."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from meshtls.svid.x509 import name_text


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
