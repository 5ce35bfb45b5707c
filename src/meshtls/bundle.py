"""Trust bundles, the set of them, and the SPIFFE JWKS document (SPIFFE Trust Domain and Bundle, section 4).

A bundle says which keys may vouch for the identities of ONE trust domain. Bundles are kept apart by trust domain and
there is no way here to ask for the union of them: a federated domain's CA must never vouch for an identity of ours.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from meshtls.errors import BundleError
from meshtls.spiffeid import TrustDomain

__all__ = ["BundleSet", "JwtAuthority", "TrustBundle"]

JwtAuthority = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_MAX_SEQUENCE = 2**63 - 1
_MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """The authorities of one trust domain.

    ``x509_authorities`` are CA certificates in publication order, ``jwt_authorities`` public keys by ``kid``;
    ``sequence`` grows with each change, ``refresh_hint`` is in seconds. An empty bundle trusts nobody.
    """

    trust_domain: TrustDomain
    x509_authorities: tuple[x509.Certificate, ...] = ()
    jwt_authorities: Mapping[str, JwtAuthority] = field(default_factory=dict)
    sequence: int | None = None
    refresh_hint: int | None = None

    @classmethod
    def from_pem(cls, trust_domain: TrustDomain, pem: bytes) -> TrustBundle:
        """Read concatenated PEM certificates. Raises BundleError."""
        try:
            return cls(trust_domain, tuple(x509.load_pem_x509_certificates(pem)))
        except (ValueError, x509.InvalidVersion) as error:
            raise BundleError(_message(trust_domain, "PEM certificates", str(error))) from error

    @classmethod
    def from_jwks(cls, trust_domain: TrustDomain, document: bytes | str) -> TrustBundle:
        """Read a SPIFFE bundle document. Keys of unknown ``kty`` or ``use`` are ignored, as the standard says.

        Raises BundleError where a key that is meant for us can't be used.
        """
        return cls._read(trust_domain, document, ("jwt-svid",))

    @classmethod
    def from_jwt_jwks(cls, trust_domain: TrustDomain, document: bytes | str) -> TrustBundle:
        """Read the JWT authorities that a Workload API sends: a JWK set (RFC 7517) of nothing else, so that a key need
        not say what it is for, and SPIRE's do not. One for another ``use`` is ignored.

        Raises BundleError where a key that is meant for us can't be used.
        """
        return replace(cls._read(trust_domain, document, ("jwt-svid", "sig", None)), x509_authorities=())

    @classmethod
    def _read(cls, trust_domain: TrustDomain, document: bytes | str, jwt_uses: tuple[str | None, ...]) -> TrustBundle:
        members = _json_object(trust_domain, document)
        keys = members.get("keys")
        if not isinstance(keys, list) or not all(isinstance(key, dict) for key in keys):
            raise BundleError(_message(trust_domain, "an array of objects in 'keys'", _kind(keys)))
        known = [key for key in keys if key.get("kty") in ("EC", "RSA")]
        return cls(
            trust_domain,
            tuple(_x509_authorities(trust_domain, known)),
            dict(_jwt_authorities(trust_domain, known, jwt_uses)),
            _whole_number(trust_domain, members, "spiffe_sequence"),
            _whole_number(trust_domain, members, "spiffe_refresh_hint"),
        )

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
    """Bundles by trust domain, frozen. ``bundles[td]`` and ``bundles.get(td)`` are the only ways in."""

    __slots__ = ("_bundles",)

    def __init__(self, bundles: Iterable[TrustBundle] = ()) -> None:
        self._bundles: Mapping[TrustDomain, TrustBundle] = {b.trust_domain: b for b in bundles}

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


def _json_object(trust_domain: TrustDomain, document: bytes | str) -> dict[str, Any]:
    try:
        members = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise BundleError(_message(trust_domain, "a JSON object", str(error))) from error
    if not isinstance(members, dict):
        raise BundleError(_message(trust_domain, "a JSON object", _kind(members)))
    return members


def _x509_authorities(trust_domain: TrustDomain, keys: list[dict[str, Any]]) -> Iterator[x509.Certificate]:
    for key in keys:
        chain = key.get("x5c")
        if key.get("use") != "x509-svid" or not chain:
            continue
        try:
            yield x509.load_der_x509_certificate(base64.b64decode(chain[0], validate=True))
        except (ValueError, TypeError, KeyError, x509.InvalidVersion) as error:
            raise BundleError(_message(trust_domain, "a base64 DER certificate in 'x5c'", str(error))) from error


def _jwt_authorities(
    trust_domain: TrustDomain, keys: list[dict[str, Any]], uses: tuple[str | None, ...]
) -> Iterator[tuple[str, JwtAuthority]]:
    for key in keys:
        if key.get("use") not in uses:
            continue
        kid = key.get("kid")
        if not isinstance(kid, str) or not kid:
            raise BundleError(_message(trust_domain, "a 'kid' with each jwt-svid key", _kind(kid)))
        try:
            yield kid, _public_key(key)
        except (ValueError, TypeError, KeyError, JoseError) as error:
            raise BundleError(_message(trust_domain, f"a public {key['kty']} key {kid!r}", str(error))) from error


def _public_key(key: dict[str, Any]) -> JwtAuthority:
    # Only the members that make the public key: 'use' values of SPIFFE are unknown to JOSE libraries.
    if key["kty"] == "EC":
        return ECKey.import_key({name: key[name] for name in ("kty", "crv", "x", "y")}).public_key
    public_key = RSAKey.import_key({name: key[name] for name in ("kty", "n", "e")}).public_key
    if public_key.key_size < _MIN_RSA_BITS:
        raise ValueError(f"{public_key.key_size} bits, too few: {_MIN_RSA_BITS} are needed")
    return public_key


def _x509_entry(authority: x509.Certificate) -> dict[str, Any]:
    key = authority.public_key()
    if not isinstance(key, JwtAuthority):
        raise BundleError(f"CA certificate {authority.subject.rfc4514_string()}: wanted an EC or RSA key")
    der = base64.b64encode(authority.public_bytes(Encoding.DER)).decode()
    return _jwk(key) | {"use": "x509-svid", "x5c": [der]}


def _jwk(key: JwtAuthority) -> dict[str, Any]:
    jwk = ECKey.import_key(key) if isinstance(key, ec.EllipticCurvePublicKey) else RSAKey.import_key(key)
    return {name: value for name, value in jwk.as_dict(private=False).items() if name != "kid"}


def _whole_number(trust_domain: TrustDomain, members: dict[str, Any], name: str) -> int | None:
    value = members.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SEQUENCE:
        raise BundleError(_message(trust_domain, f"a whole number below 2**63 in {name!r}", repr(value)))
    return value


def _message(trust_domain: TrustDomain, wanted: str, got: str) -> str:
    return f"SPIFFE bundle of trust domain {trust_domain}: wanted {wanted}, got {got}"


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
