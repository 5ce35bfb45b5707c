"""A certificate revocation list (RFC 5280, section 5), read strictly and indexed by serial number. Pure.

Only a complete CRL of the certificates' own issuer is used: not an indirect one, not a delta, and not one that covers a
part of the issuer's certificates. What such a CRL leaves out would count as not revoked.

A CRL names its issuer. Whether that issuer signed it is only known once there is a verified certificate of it, such as
an intermediate that a peer presents: see ``Crl.signed_by``.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import islice
from weakref import WeakValueDictionary

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID, SignatureAlgorithmOID

from meshtls.errors import MeshtlsError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.svid.der import INTEGER, SEQUENCE, elements, parts
from meshtls.svid.leaf_rules import extension_of
from meshtls.svid.presented import MAX_NAME_BYTES, Presented
from meshtls.svid.x509 import format_moment
from meshtls.x509_names import name_text

__all__ = ["MAX_CRLS", "MAX_CRL_BYTES", "MAX_CRL_ENTRIES", "Crl", "CrlError", "load_crl", "parse_crl", "parse_crls"]

MAX_CRL_BYTES = 8 << 20
MAX_CRL_ENTRIES = 1 << 17
#: Of one file. A CA with its intermediates publishes a few.
MAX_CRLS = 64
_MAX_EXTENSIONS = 16
_MAX_SIGNERS = 64
_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_PEM = b"-----BEGIN"
_PEM_CRL = b"-----BEGIN X509 CRL-----"
#: A BOOLEAN that is TRUE, in DER.
_TRUE = b"\x01\x01\xff"


class CrlError(MeshtlsError):
    """A CRL can't be used. The message says what was wanted and what came."""


class Crl:
    """One CRL. Compares by its bytes.

    - ``issuer``: the issuer's name in DER.
    - ``this_update``, ``next_update``: aware; from the first to the second it is fresh.
    - ``number``: increases with each CRL of an issuer; None if it has none.
    - ``serials``: the revoked certificates.
    - ``problem``: why it must not be used, in words; None for a good one.
    """

    __slots__ = (
        "__weakref__",
        "_crl",
        "_key_id",
        "_signers",
        "der",
        "digest",
        "issuer",
        "next_update",
        "number",
        "problem",
        "serials",
        "this_update",
    )

    def __init__(self, der: bytes, crl: x509.CertificateRevocationList, issuer: bytes) -> None:
        self.der, self._crl, self.issuer = der, crl, issuer
        self.digest = sha256(der).digest()
        self.this_update = crl.last_update_utc
        self.next_update = crl.next_update_utc or crl.last_update_utc
        self.number: int | None = None
        self._key_id: bytes | None = None
        for one in crl.extensions:
            if isinstance(one.value, x509.CRLNumber):
                self.number = one.value.crl_number
            elif isinstance(one.value, x509.AuthorityKeyIdentifier):
                self._key_id = one.value.key_identifier
        self.problem = _problem(crl)
        self.serials = frozenset() if self.problem else frozenset(one.serial_number for one in crl)
        self._signers: dict[bytes, bool] = {}

    def names_as_issuer(self, issuer: Presented) -> bool:
        """Whether it says that ``issuer`` signed it: by name, and by key identifier where both have one."""
        same_key = self._key_id is None or issuer.key_id is None or self._key_id == issuer.key_id
        return self.issuer == issuer.subject and same_key

    def signed_by(self, issuer: Presented) -> bool:
        """Whether the key of this CA certificate signed it, and may sign CRLs (RFC 5280, section 6.3.3 (f) and (g)).

        The result is remembered: a large CRL takes some milliseconds to hash.
        """
        usage = extension_of(issuer.certificate, x509.KeyUsage)
        if usage is not None and not usage.value.crl_sign:
            return False
        if issuer.spki not in self._signers:
            if len(self._signers) >= _MAX_SIGNERS:
                self._signers.clear()
            self._signers[issuer.spki] = _signature_holds(self._crl, issuer.certificate)
        return self._signers[issuer.spki]

    @property
    def issuer_text(self) -> str:
        return name_text(self._crl.issuer)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Crl) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<Crl {self.issuer_text} [{len(self.serials)}, until {format_moment(self.next_update)}]>"


#: Those in use, by digest: each message of the Workload API repeats all.
_loaded: WeakValueDictionary[bytes, Crl] = WeakValueDictionary()


def parse_crl(der: bytes) -> Crl:
    """Read one CRL in DER. Raises CrlError for one that is out of bounds, malformed, or of a kind that is not used."""
    crl = load_crl(der)
    if crl.problem:
        raise CrlError(f"CRL of issuer {crl.issuer_text}: {crl.problem}")
    return crl


def load_crl(der: bytes) -> Crl:
    """As ``parse_crl``, but one of a kind that is not used is returned with its ``problem``."""
    if len(der) > MAX_CRL_BYTES:
        raise CrlError(f"CRL: wanted at most {MAX_CRL_BYTES} bytes, got {len(der)}")
    known = _loaded.get(sha256(der).digest())
    if known is not None:
        return known
    try:
        issuer = _issuer(der)
        crl = x509.load_der_x509_crl(der)
        if len(crl) > MAX_CRL_ENTRIES:
            raise CrlError(f"CRL: wanted at most {MAX_CRL_ENTRIES} entries, got {len(crl)}")
        loaded = Crl(der, crl, issuer)
        _ = loaded.issuer_text  # names are decoded on first use: an invalid one must fail here
    except PARSE_ERRORS as error:
        raise CrlError(f"wanted a CRL in DER: {error}") from error
    return _loaded.setdefault(loaded.digest, loaded)


def parse_crls(content: bytes) -> tuple[Crl, ...]:
    """Read a file: one CRL in DER, or one or more in PEM. Empty content has none. Raises CrlError."""
    if not content.strip():
        return ()
    if _PEM not in content:
        return (parse_crl(content),)
    blocks = content.split(_PEM_CRL)[1:]
    if not 0 < len(blocks) <= MAX_CRLS:
        raise CrlError(f"wanted 1 to {MAX_CRLS} CRLs in PEM, got {len(blocks)}")
    if len(content) > 2 * MAX_CRL_BYTES:
        raise CrlError(f"CRLs in PEM: wanted at most {2 * MAX_CRL_BYTES} bytes, got {len(content)}")
    return tuple(parse_crl(_der_of(_PEM_CRL + block)) for block in blocks)


def _der_of(pem: bytes) -> bytes:
    try:
        return x509.load_pem_x509_crl(pem).public_bytes(Encoding.DER)
    except PARSE_ERRORS as error:
        raise CrlError(f"wanted a CRL in PEM: {error}") from error


def _issuer(der: bytes) -> bytes:
    [(_, body, whole)] = parts(der, SEQUENCE)
    if len(whole) != len(der):
        raise ValueError(f"{len(der) - len(whole)} bytes behind its end")
    [(_, tbs, _)] = parts(body, SEQUENCE)
    fields = list(islice(elements(tbs), 3))
    if fields and fields[0][0] == INTEGER:
        del fields[0]
    if [tag for tag, _, _ in fields[:2]] != [SEQUENCE, SEQUENCE]:
        raise ValueError("wanted an algorithm and an issuer")
    issuer = fields[1][2]
    if len(issuer) > MAX_NAME_BYTES:
        raise ValueError(f"issuer: wanted at most {MAX_NAME_BYTES} bytes, got {len(issuer)}")
    return issuer


def _problem(crl: x509.CertificateRevocationList) -> str | None:
    if crl.next_update_utc is None:
        return "wanted a next update, got none"
    if crl.next_update_utc < crl.last_update_utc:
        return (
            f"its next update {format_moment(crl.next_update_utc)}"
            f" is before its own of {format_moment(crl.last_update_utc)}"
        )
    if crl.signature_algorithm_oid != SignatureAlgorithmOID.ED25519 and not isinstance(
        crl.signature_hash_algorithm, _DIGESTS
    ):
        return "wanted a signature with SHA-256, SHA-384, SHA-512 or Ed25519, got another"
    return _scope_problem(crl.extensions) or _entry_problem(crl)


def _scope_problem(extensions: x509.Extensions) -> str | None:
    if len(extensions) > _MAX_EXTENSIONS:
        return f"wanted at most {_MAX_EXTENSIONS} extensions, got {len(extensions)}"
    for one in extensions:
        if one.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            return "wanted a complete CRL, got a delta CRL"
        if isinstance(one.value, x509.IssuingDistributionPoint):
            if one.value.indirect_crl:
                return "wanted a CRL of its issuer's own certificates, got an indirect CRL"
            return "wanted a CRL of all its issuer's certificates, got one for a part of them"
    understood = (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.CRL_NUMBER)
    return _critical_problem("its", extensions, understood)


def _entry_problem(crl: x509.CertificateRevocationList) -> str | None:
    # Decoding the extensions of each entry takes most of the time of reading a large CRL. Without a TRUE there is no
    # critical one. The bytes may also be those of a serial number: then all are decoded.
    if _TRUE not in crl.tbs_certlist_bytes:
        return None
    for entry in crl:
        if any(one.critical and one.oid == CRLEntryExtensionOID.CERTIFICATE_ISSUER for one in entry.extensions):
            return "wanted a CRL of its issuer's own certificates, got an indirect CRL"
        if problem := _critical_problem("an entry's", entry.extensions, (CRLEntryExtensionOID.CRL_REASON,)):
            return problem
    return None


def _critical_problem(
    whose: str, extensions: x509.Extensions, understood: Sequence[x509.ObjectIdentifier]
) -> str | None:
    for one in extensions:
        if one.critical and one.oid not in understood:
            return f"{whose} critical extension {one.oid.dotted_string} is not one that is understood here"
    return None


def _signature_holds(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # TypeError for another kind
    except PARSE_ERRORS:
        return False
