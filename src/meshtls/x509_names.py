"""The names of certificates as text. Pure.

Whoever presents a certificate chooses its names, so they may contain any character.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from meshtls.printable import printable

__all__ = ["name_text"]

#: RFC 4514 has no short name for it, and would print its number.
_SHORT_NAMES = {NameOID.SERIAL_NUMBER: "serialNumber"}


def name_text(name: x509.Name) -> str:
    """The name on one line of printable characters (RFC 4514), such as ``CN=web,O=example``; ``(empty)`` for an empty
    one.
    """
    return printable(name.rfc4514_string(_SHORT_NAMES)) or "(empty)"
