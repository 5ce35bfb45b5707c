"""The exceptions that cryptography raises for bytes that are not a valid certificate, request or key."""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

__all__ = ["PARSE_ERRORS"]

#: Documented and undocumented ones: KeyError for an unknown TLS feature, TypeError for an address range of the wrong
#: length, and UserWarning about an attribute's length if Python turns warnings into errors. InvalidVersion and
#: DuplicateExtension are not ValueErrors.
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
