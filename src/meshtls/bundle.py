"""Trust bundles, the set of them, and the SPIFFE JWKS document (SPIFFE Trust Domain and Bundle, section 4). Pure.

A bundle has the keys that may issue identities of ONE trust domain. Bundles are kept separate by trust domain, and
there is no way to get their union: a federated domain's CA must never be trusted for an identity of ours.

A key that can't be used is left out and reported in ``unusable``. If one unusable key made the whole bundle unreadable,
keys that were withdrawn in the same update would stay in use. A document that can't be read at all affects only its own
trust domain, and all of it: ``unreadable`` trusts nobody, since the update may have withdrawn any key of the last one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from meshtls.errors import BundleError
from meshtls.json_text import read_json
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.spiffeid import TrustDomain
from meshtls.x509_names import name_text

__all__ = ["BundleSet", "JwtAuthority", "TrustBundle", "read_public_jwk", "usable_authorities"]

T = TypeVar("T")
U = TypeVar("U")

JwtAuthority = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
#: The standard says 64 bits; SPIRE uses an unsigned integer.
_MAX_SEQUENCE = 2**64 - 1
_MAX_REFRESH_HINT = 2**63 - 1
#: Characters of a name or value in a message.
_LONGEST_SHOWN = 160
_CURVES = ("P-256", "P-384", "P-521")
# Bounds the cost of verification: an untrusted token selects the key that it is verified with.
_RSA_BITS = range(2048, 8192 + 1)
_RSA_EXPONENT_BITS = 32
_SHOWN = 8
_PEM = b"-----BEGIN "
#: The exceptions for an invalid certificate or key.
_FAULTS = (*PARSE_ERRORS, JoseError)


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The authorities of one trust domain.

    - ``x509_authorities``: CA certificates in publication order. A bundle without authorities trusts nobody.
    - ``jwt_authorities``: public keys by ``kid``.
    - ``sequence``: increases with each change.
    - ``refresh_hint``: in seconds.
    - ``unusable``: a line for each key that was left out. Not compared by ``==``.
    """

    trust_domain: TrustDomain
    x509_authorities: tuple[x509.Certificate, ...] = ()
    jwt_authorities: Mapping[str, JwtAuthority] = field(default_factory=dict)
    sequence: int | None = None
    refresh_hint: int | None = None
    unusable: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def unreadable(cls, trust_domain: TrustDomain, error: BundleError) -> TrustBundle:
        """The bundle that replaces an unreadable one. It trusts nobody."""
        return cls(
            trust_domain, unusable=(f"{error}; no peer of {trust_domain} is trusted until a readable one arrives",)
        )

    @classmethod
    def from_pem(cls, trust_domain: TrustDomain, pem: bytes) -> TrustBundle:
        """Read concatenated PEM certificates from an operator's file. Raises BundleError if one is unusable."""
        try:
            return cls(trust_domain, tuple(map(_readable, x509.load_pem_x509_certificates(pem))))
        except _FAULTS as error:
            is_json = pem.lstrip().startswith(b"{")
            raise BundleError(_message(trust_domain, "PEM certificates", "JSON" if is_json else str(error))) from error

    @classmethod
    def from_der(cls, trust_domain: TrustDomain, ders: Iterable[bytes]) -> TrustBundle:
        """The bundle of these certificates, without unusable ones."""
        authorities, unusable = usable_authorities(trust_domain, ders)
        return cls(trust_domain, authorities, unusable=unusable)

    @classmethod
    def from_jwks(cls, trust_domain: TrustDomain, document: bytes | str) -> TrustBundle:
        """Read a SPIFFE bundle document.

        Keys of unknown ``kty`` or ``use`` (such as WIT-SVID keys) are ignored, as the standard requires, and unusable
        keys are left out. The last of duplicate members counts, as RFC 7517 allows. Raises BundleError if the document
        is not a bundle.
        """
        members, keys = _document(trust_domain, document)
        x509_keys = [key for key in keys if key.get("use") == "x509-svid" and key.get("x5c")]
        x509_authorities, no_roots = _read_each(trust_domain, "an X.509 authority", x509_keys, _x509_authority)
        jwt_authorities, no_keys = _jwt_authorities(trust_domain, keys, ("jwt-svid",))
        return cls(
            trust_domain,
            tuple(x509_authorities),
            jwt_authorities,
            _whole_number(trust_domain, members, "spiffe_sequence", _MAX_SEQUENCE),
            _whole_number(trust_domain, members, "spiffe_refresh_hint", _MAX_REFRESH_HINT),
            no_roots + no_keys,
        )

    @classmethod
    def from_jwt_jwks(cls, trust_domain: TrustDomain, document: bytes | str) -> TrustBundle:
        """Read the JWT authorities that a Workload API sends, a JWK set (RFC 7517).

        The set has only JWT authorities, so ``use`` may be missing, as in SPIRE's sets. Keys with another ``use`` are
        ignored, unusable keys are left out. Raises BundleError if the document is not a JWK set.
        """
        members, keys = _document(trust_domain, document)
        jwt_authorities, unusable = _jwt_authorities(trust_domain, keys, ("jwt-svid", "sig", None))
        return cls(
            trust_domain,
            (),
            jwt_authorities,
            _whole_number(trust_domain, members, "spiffe_sequence", _MAX_SEQUENCE),
            _whole_number(trust_domain, members, "spiffe_refresh_hint", _MAX_REFRESH_HINT),
            unusable,
        )

    @classmethod
    def from_jwks_of_many(cls, trust_domain: TrustDomain, document: bytes | str) -> TrustBundle:
        """As ``from_jwks``, but an invalid document gives ``unreadable``, so that it does not affect other bundles."""
        try:
            return cls.from_jwks(trust_domain, document)
        except BundleError as error:
            return cls.unreadable(trust_domain, error)

    def to_jwks(self) -> str:
        """The SPIFFE bundle document of this bundle, as JSON text."""
        keys = [_x509_entry(authority) for authority in self.x509_authorities]
        keys += [_jwk(key) | {"use": "jwt-svid", "kid": kid} for kid, key in self.jwt_authorities.items()]
        members: dict[str, Any] = {"keys": keys}
        if self.sequence is not None:
            members["spiffe_sequence"] = self.sequence
        if self.refresh_hint is not None:
            members["spiffe_refresh_hint"] = self.refresh_hint
        return json.dumps(members, indent=2)

    def to_pem(self) -> bytes:
        """The X.509 authorities as concatenated PEM."""
        return b"".join(authority.public_bytes(Encoding.PEM) for authority in self.x509_authorities)

    def to_der(self) -> bytes:
        """The X.509 authorities as concatenated DER, the form of the Workload API."""
        return b"".join(authority.public_bytes(Encoding.DER) for authority in self.x509_authorities)


class BundleSet:
    """An immutable set of bundles by trust domain, for lookup by ``bundles[td]`` and ``bundles.get(td)`` only.

    The argument ``unusable`` has lines about what was left out and belongs to no trust domain.
    """

    __slots__ = ("_bundles", "_unusable")

    def __init__(self, bundles: Iterable[TrustBundle] = (), unusable: Iterable[str] = ()) -> None:
        self._bundles: Mapping[TrustDomain, TrustBundle] = {b.trust_domain: b for b in bundles}
        self._unusable = tuple(unusable)

    @property
    def unusable(self) -> tuple[str, ...]:
        """A line for everything that was left out, of all bundles."""
        return (*self._unusable, *chain.from_iterable(bundle.unusable for bundle in self))

    def get(self, trust_domain: TrustDomain) -> TrustBundle | None:
        return self._bundles.get(trust_domain)

    def __getitem__(self, trust_domain: TrustDomain) -> TrustBundle:
        return self._bundles[trust_domain]

    def __iter__(self) -> Iterator[TrustBundle]:
        return iter(self._bundles.values())

    def __len__(self) -> int:
        return len(self._bundles)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BundleSet) and self._bundles == other._bundles

    __hash__ = None  # type: ignore[assignment]  # bundles hold dicts of JWT keys

    def __repr__(self) -> str:
        inside = ", ".join(f"{b.trust_domain}: {len(b.x509_authorities)}" for b in self)
        return f"<BundleSet {inside or 'empty'}>"


def usable_authorities(
    trust_domain: TrustDomain, ders: Iterable[bytes]
) -> tuple[tuple[x509.Certificate, ...], tuple[str, ...]]:
    """The usable ones of these certificates, and a line for each unusable one."""
    read, unusable = _read_each(trust_domain, "an X.509 authority", ders, _readable_der)
    return tuple(read), unusable


def _document(trust_domain: TrustDomain, document: bytes | str) -> tuple[dict[str, Any], list[Any]]:
    try:
        members = read_json(document, contained=True)
    except ValueError as error:
        is_pem = isinstance(document, bytes) and _PEM in document
        raise BundleError(_message(trust_domain, "a JSON object", "PEM" if is_pem else str(error))) from error
    if not isinstance(members, dict):
        raise BundleError(_message(trust_domain, "a JSON object", _kind(members)))
    keys = members.get("keys")
    if not isinstance(keys, list):
        raise BundleError(_message(trust_domain, "an array of objects in 'keys'", _kind(keys)))
    return members, [key for key in keys if isinstance(key, dict) and key.get("kty") in ("EC", "RSA")]


def _read_each(
    trust_domain: TrustDomain, what: str, values: Iterable[T], read: Callable[[T], U]
) -> tuple[list[U], tuple[str, ...]]:
    """The result of ``read`` for each value that it can read, and a line for each that it can't."""
    found, faults = [], []
    for value in values:
        try:
            found.append(read(value))
        except _FAULTS as error:
            faults.append(f"SPIFFE bundle of trust domain {trust_domain}: left out {what}: {_short(error)}")
    if len(faults) > _SHOWN:
        more = f"SPIFFE bundle of trust domain {trust_domain}: left out {len(faults) - _SHOWN} more"
        faults[_SHOWN:] = [more]
    return found, tuple(faults)


def _x509_authority(key: dict[str, Any]) -> x509.Certificate:
    x5c = key["x5c"]
    if not isinstance(x5c, list) or not isinstance(x5c[0], str):
        got = f"a list of {_kind(x5c[0])}" if isinstance(x5c, list) else _kind(x5c)
        raise TypeError(f"wanted an array of base64 texts in 'x5c', got {got}")
    authority = _readable_der(base64.b64decode(x5c[0], validate=True))
    _x509_entry(authority)  # a key that can't be encoded again can't be passed on
    return authority


def _readable_der(der: bytes) -> x509.Certificate:
    return _readable(x509.load_der_x509_certificate(der))


def _readable(authority: x509.Certificate) -> x509.Certificate:
    # These are decoded lazily. Decode them now, so that an invalid one does not fail each later handshake.
    _ = authority.subject, authority.issuer, authority.extensions, authority.public_key()
    return authority


def _jwt_authorities(
    trust_domain: TrustDomain, keys: Sequence[dict[str, Any]], uses: tuple[str | None, ...]
) -> tuple[dict[str, JwtAuthority], tuple[str, ...]]:
    ours = (key for key in keys if key.get("use") in uses)
    found, unusable = _read_each(trust_domain, "a JWT authority", ours, _jwt_authority)
    authorities = dict(found)
    if len(authorities) < len(found):
        twice = f"SPIFFE bundle of trust domain {trust_domain}: several JWT authorities have one 'kid'; the last counts"
        unusable = (*unusable, twice)
    return authorities, unusable


def _jwt_authority(key: dict[str, Any]) -> tuple[str, JwtAuthority]:
    kid = key.get("kid")
    if not isinstance(kid, str) or not kid:
        raise ValueError(f"wanted a 'kid' with each key, got {_kind(kid)}")
    if any("\ud800" <= one <= "\udfff" for one in kid):
        raise ValueError(f"wanted a 'kid' of whole characters, got {_short(kid)}, with half a surrogate pair")
    try:
        return kid, read_public_jwk(key)
    except _FAULTS as error:
        raise ValueError(f"wanted a public {key['kty']} key {_short(kid)}, got {error}") from error


def read_public_jwk(key: Mapping[str, Any]) -> JwtAuthority:
    """The EC or RSA key of a JWK (RFC 7518, sections 6.2 and 6.3) whose ``kty`` is one of these. Raises PARSE_ERRORS or
    JoseError, also for a key whose use would cost too much or protect too little.
    """
    # Only the members of the public key, since JOSE libraries don't know SPIFFE's values of 'use'.
    if key["kty"] == "EC":
        if key["crv"] not in _CURVES:
            raise ValueError(f"curve {_short(key['crv'])}: wanted {', '.join(_CURVES)}")
        return ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")}).public_key
    bits, exponent_bits = _bits(key["n"]), _bits(key["e"])
    if bits not in _RSA_BITS:
        raise ValueError(f"{bits} bits: wanted {_RSA_BITS[0]} to {_RSA_BITS[-1]}")
    if exponent_bits > _RSA_EXPONENT_BITS:
        raise ValueError(f"an exponent of {exponent_bits} bits: wanted at most {_RSA_EXPONENT_BITS}")
    return RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")}).public_key


def _bits(number: str) -> int:
    """The bit length of a number in base64url (RFC 7518, section 2)."""
    return int.from_bytes(base64.urlsafe_b64decode(number + "=" * (-len(number) % 4))).bit_length()


def _x509_entry(authority: x509.Certificate) -> dict[str, Any]:
    try:
        key = authority.public_key()
        if not isinstance(key, JwtAuthority):
            raise ValueError(f"got {type(key).__name__}")  # noqa: TRY004  # one refusal for both
        members = _jwk(key)
    except _FAULTS as error:
        name = name_text(authority.subject)[:_LONGEST_SHOWN]
        raise BundleError(f"CA certificate {name}: wanted an EC or RSA key: {error}") from error
    der = base64.b64encode(authority.public_bytes(Encoding.DER)).decode()
    return members | {"use": "x509-svid", "x5c": [der]}


def _jwk(key: JwtAuthority) -> dict[str, Any]:
    jwk = ECKey.import_key(key) if isinstance(key, ec.EllipticCurvePublicKey) else RSAKey.import_key(key)
    return {name: value for name, value in jwk.as_dict(private=False).items() if name != "kid"}


def _whole_number(trust_domain: TrustDomain, members: dict[str, Any], name: str, largest: int) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        bits = largest.bit_length()
        raise BundleError(_message(trust_domain, f"a whole number below 2**{bits} in {name!r}", _short(value)))
    return value


def _message(trust_domain: TrustDomain, wanted: str, got: str) -> str:
    return f"SPIFFE bundle of trust domain {trust_domain}: wanted {wanted}, got {got}"


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def _short(value: object) -> str:
    """The value for a message, shortened and without control characters."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text[:_LONGEST_SHOWN])
