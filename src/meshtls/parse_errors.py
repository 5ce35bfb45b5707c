"""What cryptography raises for bytes that it can't decode as the certificate, request or key that they should be."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

__all__ = ["PARSE_ERRORS"]

#: The documented ones and the others: KeyError for a TLS feature that it has no name for, TypeError for an address
#: range of the wrong length, and the warning about an attribute of an odd length where Python is told to make errors
#: of warnings. Two of its own are no ValueError: InvalidVersion and DuplicateExtension.
PARSE_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    OverflowError,
    UserWarning,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
