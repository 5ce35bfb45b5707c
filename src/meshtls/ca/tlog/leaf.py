"""What a leaf of our log says: a JSON object about one SVID or one authority, never the SVID itself. Pure.

Readers recompute ``digest`` from the certificate or token that they hold. A token can't be computed from its digest.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from meshtls.errors import RequestError

__all__ = ["Leaf", "LeafKind"]


class LeafKind(Enum):
    """What was issued. ``PREDECESSOR`` is the log that this one replaces, because its history was lost."""

    X509_SVID = "x509-svid"
    JWT_SVID = "jwt-svid"
    X509_AUTHORITY = "x509-authority"
    X509_INTERMEDIATE = "x509-intermediate"
    JWT_AUTHORITY = "jwt-authority"
    PREDECESSOR = "predecessor"


class Leaf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One leaf. Its bytes are its fields in this order, those with a default left out.

    - ``digest``: SHA-256 in hexadecimal, of the certificate's DER, of the token, or of the public key's DER.
    - ``serial``: a certificate's serial in hexadecimal, a token's number in the record of issued SVIDs, or a key's kid.
    - ``not_before``, ``not_after``: seconds since 1970.
    - ``issuer``: the digest of the certificate that signed an X509-SVID.
    - ``agent_id``, ``entry_id``: who requested the SVID, and for which entry; empty if an administrator minted it.
    """

    kind: LeafKind
    spiffe_id: str
    serial: str
    digest: str
    server_id: str
    not_before: int = 0
    not_after: int = 0
    issuer: str = ""
    agent_id: str = ""
    entry_id: str = ""

    def __bytes__(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def parse(cls, entry: bytes) -> Leaf:
        """Raises RequestError where the entry is not one of ours."""
        try:
            return _DECODER.decode(entry)
        except msgspec.DecodeError as error:
            raise RequestError(f"log entry: wanted one of this log's JSON objects: {error}") from error


_DECODER = msgspec.json.Decoder(Leaf)
