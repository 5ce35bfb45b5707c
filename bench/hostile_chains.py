"""Certificate chains from a stranger that are costly to verify: each has a name, and none may be accepted.

They claim an ID of the verifier's own trust domain, since it would refuse any other at once, and some name its real
authorities, whose certificates are public, as their issuers. Present one with ``bench.raw_client``; ``ordinary`` is the
reference for the others: an honest certificate of a foreign CA.
"""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["HostileChain", "hostile_chains", "ordinary"]

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
_P256_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_LARGE = 88_000  # bytes; OpenSSL reads no Certificate message above 100 KB


@dataclass(frozen=True, slots=True)
class HostileChain:
    """``certificates`` are DER, or other bytes in its place, leaf first."""

    name: str
    certificates: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"<HostileChain {self.name!r} [{len(self.certificates)}, {sum(map(len, self.certificates))} bytes]>"


def ordinary(spiffe_id: str) -> HostileChain:
    """A leaf below a P-256 intermediate of a CA that the verifier does not know."""
    forge = _Forge(spiffe_id, (), None)
    return HostileChain("ordinary foreign certificate", forge.foreign())


def hostile_chains(
    spiffe_id: str, authorities: Sequence[x509.Certificate], captured: Sequence[bytes] | None = None
) -> Iterator[HostileChain]:
    """All hostile chains, those that are cheap to make first.

    - ``authorities``: the verifier's own root, and intermediates that it may know.
    - ``captured``: a real peer's chain as DER, which every TLS client of that peer sees; without it a few are omitted.
    """
    forge = _Forge(spiffe_id, tuple(authorities), captured)
    for name, make in _KINDS.items():
        made = make(forge)
        if made:
            yield HostileChain(name, tuple(made))


@cache
def _key(slot: str, kind: str = "P-256") -> ec.EllipticCurvePrivateKey:
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


@cache
def _dear_key(bits: int) -> rsa.RSAPrivateKey:
    """An RSA key whose public exponent is nearly as long as its modulus."""
    numbers = rsa.generate_private_key(65537, bits).private_numbers()
    p, q = numbers.p, numbers.q
    order = math.lcm(p - 1, q - 1)
    exponent = 0
    while math.gcd(exponent, order) != 1:
        exponent = (secrets.randbits(bits - 4) | 1 | 1 << (bits - 5)) % order
    d = pow(exponent, -1, order)
    public = rsa.RSAPublicNumbers(exponent, p * q)
    private = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return private.private_key(unsafe_skip_rsa_key_validation=True)


class _Forge:
    """Makes certificates with any content, with a signature or with junk in its place."""

    def __init__(
        self, spiffe_id: str, authorities: tuple[x509.Certificate, ...], captured: Sequence[bytes] | None
    ) -> None:
        self.spiffe_id, self.authorities, self.captured = spiffe_id, authorities, captured
        self.now = datetime.now(UTC).replace(microsecond=0)

    def foreign(self) -> tuple[bytes, ...]:
        root, middle = _key("foreign root"), _key("foreign intermediate")
        signer = self.signed("stranger CA", "stranger root", middle, root, self.ca_extensions(middle, root))
        return self.signed("web", "stranger CA", _key("leaf"), middle, self.leaf_extensions(middle)), signer

    def circle(self, key: Key, count: int, digest: Digest | None = None) -> tuple[bytes, ...]:
        """A leaf under self-issued CAs with one name and one key: each can be the issuer of every other."""
        ca = self.ca_extensions(key, key)
        signers = [self.signed("evil", "evil", key, key, ca, digest) for _ in range(count)]
        return self.signed("web", "evil", _key("leaf"), key, self.leaf_extensions(key), digest), *signers

    def signed(
        self,
        subject: str,
        issuer: str,
        own: Key,
        signer: Key,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
        digest: Digest | None = None,
        lasting: timedelta = timedelta(hours=2),
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name(issuer))
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(hours=3))
            .not_valid_after(self.now + lasting)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, digest or hashes.SHA256()).public_bytes(Encoding.DER)

    def ca_extensions(self, own: Key, signer: Key) -> list[tuple[x509.ExtensionType, bool]]:
        return [
            (x509.BasicConstraints(True, None), True),
            (_usage("key_cert_sign", "crl_sign"), True),
            (x509.SubjectKeyIdentifier.from_public_key(own.public_key()), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        ]

    def leaf_extensions(self, signer: Key, *names: x509.GeneralName) -> list[tuple[x509.ExtensionType, bool]]:
        uri = x509.UniformResourceIdentifier(self.spiffe_id)
        return [
            (_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False),
            (x509.SubjectAlternativeName([uri, *names]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
        ]

    def raw(
        self,
        *,
        subject: bytes | None = None,
        issuer: bytes | None = None,
        spki: bytes | None = None,
        serial: bytes = b"\x02\x01\x07",
        algorithm: bytes = _P256_SHA256,
        extensions: Sequence[bytes] | None = None,
        signature: bytes = b"",
        bare: bool = False,
    ) -> bytes:
        """A certificate assembled by hand, by default a leaf with the claimed ID, with a junk signature."""
        tbs = _der(
            0x30,
            _der(0xA0, b"\x02\x01\x02"),
            serial,
            algorithm,
            issuer or _name("stranger CA").public_bytes(),
            _der(0x30, self._moment(timedelta(hours=-3)), self._moment(timedelta(hours=3))),
            subject or _name("web").public_bytes(),
            spki or _spki(_key("leaf")),
            b""
            if bare
            else _der(0xA3, _der(0x30, *(self.raw_leaf_extensions() if extensions is None else extensions))),
        )
        return _der(0x30, tbs, algorithm, _der(0x03, b"\0", signature or _ecdsa_junk()))

    def raw_leaf_extensions(self, *names: bytes) -> list[bytes]:
        return [
            _extension("551d0f", bytes.fromhex("03020780"), critical=True),
            _extension("551d25", bytes.fromhex("301406082b0601050507030106082b06010505070302")),
            _extension("551d11", _der(0x30, _der(0x86, self.spiffe_id.encode()), *names)),
        ]

    def raw_ca_extensions(self, issuer: x509.Certificate | None, own_id: bytes) -> list[bytes]:
        made = [
            _extension("551d13", bytes.fromhex("30030101ff"), critical=True),
            _extension("551d0f", bytes.fromhex("03020106"), critical=True),
            _extension("551d0e", _der(0x04, own_id)),
        ]
        return made + ([_authority_id(_key_id(issuer))] if issuer is not None else [])

    def _moment(self, away: timedelta) -> bytes:
        return _der(0x17, f"{self.now + away:%y%m%d%H%M%SZ}".encode())

    # Chains that use the names of the verifier's authorities.

    def claimants(self, count: int) -> list[bytes]:
        """CAs with one name that claim the real authorities as issuers in turn, and a leaf below all of them."""
        if not self.authorities:
            return []
        signers = []
        for place in range(count):
            real = self.authorities[place % len(self.authorities)]
            spki = _spki(ec.generate_private_key(ec.SECP256R1()))
            extensions = self.raw_ca_extensions(real, b"same")
            signers.append(
                self.raw(
                    subject=_name("go-between").public_bytes(),
                    issuer=real.subject.public_bytes(),
                    spki=spki,
                    extensions=extensions,
                )
            )
        leaf = self.raw(
            issuer=_name("go-between").public_bytes(),
            extensions=[*self.raw_leaf_extensions(), _authority_id(b"same")],
        )
        return [leaf, *signers]

    def constrained(self, constraints: int, names: int, *, claiming: bool) -> list[bytes]:
        """A CA with name constraints above a leaf with DNS names; ``claiming``: with a real authority as issuer."""
        if claiming and not self.authorities:
            return []
        real = self.authorities[0] if claiming else None
        excluded = b"".join(_der(0x30, _der(0x82, b"x%d.no" % one)) for one in range(constraints))
        middle = self.raw(
            subject=_name("narrow").public_bytes(),
            issuer=real.subject.public_bytes() if real else _name("stranger root").public_bytes(),
            extensions=[
                *self.raw_ca_extensions(real, b"narrow"),
                _extension("551d1e", _der(0x30, _der(0xA1, excluded)), critical=True),
            ],
        )
        leaf = self.raw(
            issuer=_name("narrow").public_bytes(),
            extensions=[
                *self.raw_leaf_extensions(*(_der(0x82, b"y%d.yes" % one) for one in range(names))),
                _authority_id(b"narrow"),
            ],
        )
        return [leaf, middle]

    def signed_constraints(self, constraints: int, names: int) -> list[bytes]:
        """The same with good signatures, up to a stranger's root, which is presented too."""
        key = _key("narrow root")
        excluded = [x509.DNSName(f"x{one}.no") for one in range(constraints)]
        root = self.signed(
            "narrow", "narrow", key, key, [*self.ca_extensions(key, key), (x509.NameConstraints(None, excluded), True)]
        )
        dns = [x509.DNSName(f"y{one}.yes") for one in range(names)]
        return [self.signed("web", "narrow", _key("leaf"), key, self.leaf_extensions(key, *dns)), root]

    def expired(self) -> list[bytes]:
        key = _key("narrow root")
        excluded = [x509.DNSName(f"x{one}.no") for one in range(2200)]
        constraints = (x509.NameConstraints(None, excluded), True)
        root = self.signed("narrow", "narrow", key, key, [*self.ca_extensions(key, key), constraints])
        dns = [x509.DNSName(f"y{one}.yes") for one in range(2800)]
        ended = timedelta(hours=-1)
        return [self.signed("web", "narrow", _key("leaf"), key, self.leaf_extensions(key, *dns), lasting=ended), root]

    def below_a_captured_intermediate(self) -> list[bytes]:
        if not self.captured or len(self.captured) < 2:
            return []
        real = x509.load_der_x509_certificate(self.captured[1])
        leaf = self.raw(
            issuer=real.subject.public_bytes(),
            extensions=[*self.raw_leaf_extensions(), _authority_id(_key_id(real))],
        )
        return [leaf, *self.captured[1:]]

    def captured_with_company(self) -> list[bytes]:
        """A real peer's chain, whose key the stranger does not have, and new unrelated CAs each time."""
        if not self.captured:
            return []
        extra = [
            self.raw(subject=_name(f"company {os.urandom(8).hex()}").public_bytes(), extensions=[])
            for _ in range(8 - len(self.captured))
        ]
        return [*self.captured, *extra]

    def tiny(self, spki: bytes, size: int) -> list[bytes]:
        """As many minimal certificates with this key as fit."""
        one = self.raw(subject=_der(0x30), issuer=_der(0x30), spki=spki, signature=b"s", bare=True)
        return [one] * (size // (len(one) + 5))

    def leaf_with(self, *extensions: bytes) -> list[bytes]:
        return [self.raw(extensions=[*self.raw_leaf_extensions(), *extensions]), self.foreign()[1]]


def _filled(item: Callable[[int], bytes], size: int = _LARGE) -> bytes:
    """Concatenated items up to this size."""
    made, length, place = [], 0, 0
    while length < size:
        made.append(item(place))
        length += len(made[-1])
        place += 1
    return b"".join(made)


def _attribute(place: int) -> bytes:
    return _der(0x31, _der(0x30, bytes.fromhex("0603550403"), _der(0x0C, b"%05d" % place)))


def _many_valued(place: int) -> bytes:
    return _der(0x30, bytes.fromhex("0603550403"), _der(0x0C, b"%05d" % (99_999 - place)))


def _nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = _der(0x30, body)
    return body


def _oid(place: int) -> bytes:
    return _der(0x06, bytes((0x2B, 0x81 + (place >> 14) % 127, 0x80 | (place >> 7) & 0x7F, place & 0x7F)))


def _explicit_curve() -> bytes:
    """P-521's parameters written out, with the generator compressed."""
    p = (1 << 521) - 1
    a = p - 3
    b = int(
        "0051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d"
        "2c34f1ef451fd46b503f00",
        16,
    )
    order = int(
        "01fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b88"
        "99c47aebb6fb71e91386409",
        16,
    )
    x = int(
        "00c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c185"
        "6a429bf97e7e31c2e5bd66",
        16,
    )
    point = b"\x02" + x.to_bytes(66, "big")
    parameters = _der(
        0x30,
        b"\x02\x01\x01",
        _der(0x30, bytes.fromhex("06072a8648ce3d0101"), _integer(p)),
        _der(0x30, _der(0x04, a.to_bytes(66, "big")), _der(0x04, b.to_bytes(66, "big"))),
        _der(0x04, point),
        _integer(order),
        b"\x02\x01\x01",
    )
    return _der(0x30, _der(0x30, bytes.fromhex("06072a8648ce3d0201"), parameters), _der(0x03, b"\0", point))


def _rsa_spki(bits: int, exponent: int) -> bytes:
    modulus = secrets.randbits(bits) | 1 << (bits - 1) | 1
    body = _der(0x30, _integer(modulus), _integer(exponent))
    return _der(0x30, bytes.fromhex("300d06092a864886f70d0101010500"), _der(0x03, b"\0", body))


def _dsa_spki(bits: int) -> bytes:
    p = secrets.randbits(bits) | 1 << (bits - 1) | 1
    parameters = _der(0x30, _integer(p), _integer(secrets.randbits(256) | 1), _integer(secrets.randbits(bits - 1)))
    key = _der(0x03, b"\0", _integer(secrets.randbits(bits - 1)))
    return _der(0x30, _der(0x30, bytes.fromhex("06072a8648ce380401"), parameters), key)


def _pss(salt: int) -> bytes:
    """AlgorithmIdentifier of RSASSA-PSS with SHA-512 and a salt of any length (RFC 4055)."""
    sha512 = bytes.fromhex("300d06096086480165030402030500")
    mask = _der(0x30, bytes.fromhex("06092a864886f70d010108"), sha512)
    parameters = _der(0x30, _der(0xA0, sha512), _der(0xA1, mask), _der(0xA2, _integer(salt)))
    return _der(0x30, bytes.fromhex("06092a864886f70d01010a"), parameters)


#: A key that each of OpenSSL's decoders fails to decode.
_BROKEN_RSA = bytes.fromhex("3012300d06092a864886f70d0101010500030100")
_OWN_OID = bytes.fromhex("06082b06010401b20301")
_KINDS: dict[str, Callable[[_Forge], Sequence[bytes]]] = {
    "foreign root presented": lambda f: f.circle(_key("evil"), 1),
    "three self-issued P-256 CAs": lambda f: f.circle(_key("evil"), 3),
    "seven self-issued P-256 CAs": lambda f: f.circle(_key("evil"), 7),
    "three self-issued P-521 CAs": lambda f: f.circle(_key("evil", "P-521"), 3, hashes.SHA512()),
    "seven self-issued P-384 CAs": lambda f: f.circle(_key("evil", "P-384"), 7, hashes.SHA384()),
    "three self-issued RSA-2048 CAs, huge exponent": lambda f: f.circle(_dear_key(2048), 3),
    "three self-issued RSA-3072 CAs, huge exponent": lambda f: f.circle(_dear_key(3072), 3),
    "CAs that claim our authorities as issuers": lambda f: f.claimants(7),
    "2,200 name constraints over 2,800 SANs": lambda f: f.signed_constraints(2200, 2800),
    "the same, claiming our root as issuer": lambda f: f.constrained(2200, 2800, claiming=True),
    "256 name constraints over 256 SANs, claiming": lambda f: f.constrained(256, 256, claiming=True),
    "the same, expired": lambda f: f.expired(),
    "a forged leaf below our intermediate": lambda f: f.below_a_captured_intermediate(),
    "a captured chain with unrelated CAs": lambda f: f.captured_with_company(),
    "20,000 empty certificates": lambda f: [b""] * 20_000,
    "a leaf and 17,000 empty certificates": lambda f: [f.foreign()[0], *[b""] * 17_000],
    "300 tiny certificates": lambda f: [
        f.foreign()[0],
        *(f.raw(subject=_name(f"{one}").public_bytes(), extensions=[]) for one in range(300)),
    ],
    "300 tiny CAs in a line": lambda f: [
        f.raw(issuer=_name("0").public_bytes()),
        *(
            f.raw(subject=_name(f"{one}").public_bytes(), issuer=_name(f"{one + 1}").public_bytes(), extensions=[])
            for one in range(300)
        ),
    ],
    "14 KB of certificates with broken RSA keys": lambda f: f.tiny(_BROKEN_RSA, 14_000),
    "14 KB of certificates on explicit curves": lambda f: f.tiny(_explicit_curve(), 14_000),
    "14 KB of P-256 certificates": lambda f: f.tiny(_spki(_key("leaf")), 14_000),
    "3 KB of certificates with broken RSA keys": lambda f: f.tiny(_BROKEN_RSA, 3_000),
    "3 KB of certificates on explicit curves": lambda f: f.tiny(_explicit_curve(), 3_000),
    "subject of 88 KB": lambda f: [f.raw(subject=_der(0x30, _filled(_attribute)))],
    "issuer of 88 KB": lambda f: [f.raw(issuer=_der(0x30, _filled(_attribute)))],
    "subject with one RDN of 88 KB": lambda f: [f.raw(subject=_der(0x30, _der(0x31, _filled(_many_valued))))],
    "one name of 88 KB": lambda f: [
        f.raw(subject=_der(0x30, _der(0x31, _der(0x30, bytes.fromhex("0603550403"), _der(0x0C, b"a" * _LARGE)))))
    ],
    "serial of 88 KB": lambda f: [f.raw(serial=_der(0x02, b"\x7f" * _LARGE))],
    "signature of 88 KB": lambda f: [f.raw(signature=b"\x7f" * _LARGE)],
    "6,000 unknown extensions": lambda f: f.leaf_with(
        _filled(lambda one: _der(0x30, _oid(one), _der(0x04, b"\x05\x00")))
    ),
    "an unknown extension of 88 KB": lambda f: f.leaf_with(_der(0x30, _OWN_OID, _der(0x04, b"\0" * _LARGE))),
    "nesting 8,000 deep": lambda f: f.leaf_with(_der(0x30, _OWN_OID, _der(0x04, _nested(8_000)))),
    "88 KB of policies": lambda f: f.leaf_with(
        _extension("551d20", _der(0x30, _filled(lambda one: _der(0x30, _oid(one)))))
    ),
    "88 KB of CRL distribution points": lambda f: f.leaf_with(
        _extension(
            "551d1f",
            _der(0x30, _filled(lambda one: _der(0x30, _der(0xA0, _der(0xA0, _der(0x86, b"http://%d" % one)))))),
        )
    ),
    "7 KB of access descriptions": lambda f: f.leaf_with(
        _extension(
            "2b06010505070101",
            _der(
                0x30,
                _filled(lambda one: _der(0x30, bytes.fromhex("06082b06010505073001"), _der(0x86, b"h%d" % one)), 7_000),
            ),
        )
    ),
    "88 KB of SANs": lambda f: [
        f.raw(extensions=f.raw_leaf_extensions(_filled(lambda one: _der(0x82, b"%d" % one)))),
    ],
    "255 SANs": lambda f: [
        f.raw(extensions=f.raw_leaf_extensions(*(_der(0x82, b"%d.a" % one) for one in range(255)))),
        f.foreign()[1],
    ],
    "SANs that are names of 88 KB": lambda f: [
        f.raw(extensions=f.raw_leaf_extensions(_der(0xA4, _der(0x30, _filled(_attribute)))))
    ],
    "a SPIFFE ID of 88 KB": lambda f: [_Forge(f.spiffe_id + "a" * _LARGE, (), None).raw()],
    "RSA-16384 leaf": lambda f: [f.raw(spki=_rsa_spki(16384, 65537)), f.foreign()[1]],
    "RSA-3072 leaf, huge exponent": lambda f: [f.raw(spki=_rsa_spki(3072, secrets.randbits(3068) | 1))],
    "RSA leaf of 700,000 bits": lambda f: [f.raw(spki=_rsa_spki(700_000, 65537))],
    "leaf on an explicit curve": lambda f: [f.raw(spki=_explicit_curve())],
    "eight keys on explicit curves": lambda f: [f.raw(spki=_explicit_curve())] * 8,
    "leaf with a compressed P-521 point": lambda f: [
        f.raw(spki=_spki(_key("leaf", "P-521"), PublicFormat.CompressedPoint))
    ],
    "DSA leaf of 10,000 bits": lambda f: [f.raw(spki=_dsa_spki(10_000))],
    "Ed448 leaf": lambda f: [f.raw(spki=_spki_of(ed448.Ed448PrivateKey.generate().public_key()))],
    "X25519 leaf": lambda f: [f.raw(spki=_spki_of(x25519.X25519PrivateKey.generate().public_key()))],
    "RSA-PSS with a huge salt": lambda f: [f.raw(algorithm=_pss(1 << 31)), f.foreign()[1]],
    "RSA-PSS with 20 KB of parameters": lambda f: [
        f.raw(algorithm=_der(0x30, bytes.fromhex("06092a864886f70d01010a"), _der(0x30, _nested(7_000))))
    ],
}


def _usage(*on: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in on for name in _USAGES})


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_id(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def _authority_id(key_id: bytes) -> bytes:
    return _extension("551d23", _der(0x30, _der(0x80, key_id)))


def _spki(key: Key, point: PublicFormat | None = None) -> bytes:
    plain = _spki_of(key.public_key())
    if point is None:
        return plain
    # The same algorithm with another form of the point.
    algorithm = plain[plain.index(b"\x30", 1) :][: 2 + plain[plain.index(b"\x30", 1) + 1]]
    return _der(0x30, algorithm, _der(0x03, b"\0", key.public_key().public_bytes(Encoding.X962, point)))


def _spki_of(
    key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed448.Ed448PublicKey | x25519.X25519PublicKey,
) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    mark = b"\x01\x01\xff" if critical else b""
    return _der(0x30, _der(0x06, bytes.fromhex(oid)), mark, _der(0x04, value))


def _ecdsa_junk() -> bytes:
    return _der(0x30, _integer(secrets.randbits(255) | 1), _integer(secrets.randbits(255) | 1))


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 0x80:
        return bytes((tag, len(body))) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body
