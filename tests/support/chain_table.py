"""Chains that are each unusual in one thing, and which of ``verify_peer``, OpenSSL and go-spiffe accept them.

``docs/certificates.md`` holds the same table, as printed by ``python -m tests.support.chain_table``. ``verify_peer``
accepts no chain that OpenSSL, with the settings of our contexts, would refuse afterwards; if it refuses a chain that
another accepts, ``why`` is the reason.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from ipaddress import ip_network

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.support.certs import AnyKey, Extension, Issued
from tests.support.certs import ca as any_ca
from tests.support.certs import leaf as any_leaf

__all__ = ["CASES", "WEB", "Case", "table"]

NOW = datetime.now(UTC).replace(microsecond=0)  # OpenSSL uses the machine's clock
START, END = NOW - timedelta(hours=1), NOW + timedelta(days=1)
WEB = "spiffe://a.test/web"
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
ANY_POLICY, POLICY, OTHER_POLICY = (ObjectIdentifier(one) for one in ("2.5.29.32.0", "1.2.3.4.1", "1.2.3.4.2"))
ca = partial(any_ca, not_before=START, not_after=END)
leaf = partial(any_leaf, not_before=START, not_after=END)
ROOT = ca(None, "spiffe://a.test", name="root a", slot="root a")
MIDDLE = partial(ca, slot="middle", name="middle")


@dataclass(frozen=True)
class Case:
    """``chain`` is presented, leaf first, to a side that trusts ``authorities``."""

    name: str
    chain: tuple[Issued, ...]
    accepted: bool
    openssl: bool
    go: bool
    why: str = ""
    authorities: tuple[Issued, ...] = (ROOT,)


def _good(name: str, chain: Sequence[Issued], *, go: bool = True, why: str = "", root: Issued = ROOT) -> Case:
    return Case(name, tuple(chain), True, True, go, why, (root,))


def _bad(
    name: str,
    chain: Sequence[Issued],
    why: str,
    *,
    openssl: bool = False,
    go: bool = False,
    root: Issued = ROOT,
) -> Case:
    return Case(name, tuple(chain), False, openssl, go, why, (root,))


def below(*extra: Extension, **change: object) -> list[Issued]:
    """A leaf below an intermediate with these unusual properties."""
    middle = MIDDLE(ROOT, extra=extra, **change)
    return [leaf(middle, WEB), middle]


def under(own_key: AnyKey) -> list[Issued]:
    """A leaf with this key."""
    return [leaf(ROOT, WEB, own_key=own_key)]


def named(permitted: Sequence[x509.GeneralName] | None, excluded: Sequence[x509.GeneralName] | None) -> Extension:
    return x509.NameConstraints(permitted, excluded), True


def uri(host: str) -> list[x509.GeneralName]:
    return [x509.UniformResourceIdentifier(host)]


def dns(host: str) -> list[x509.GeneralName]:
    return [x509.DNSName(host)]


def policies(*oids: ObjectIdentifier, critical: bool = False) -> Extension:
    return x509.CertificatePolicies([x509.PolicyInformation(oid, None) for oid in oids]), critical


def required(skip: int = 0) -> Extension:
    return x509.PolicyConstraints(require_explicit_policy=skip, inhibit_policy_mapping=None), True


def unknown(*, critical: bool, oid: str = "1.3.6.1.4.1.55555.1") -> Extension:
    return x509.UnrecognizedExtension(ObjectIdentifier(oid), b"\x05\x00"), critical


def _dear_rsa() -> rsa.RSAPrivateKey:
    """An RSA key with a public exponent just above 32 bits."""
    while True:
        exponent = (1 << 32) + 15 + 2 * secrets.randbits(8)
        numbers = rsa.generate_private_key(65537, 2048).private_numbers()
        p, q = numbers.p, numbers.q
        try:
            d = pow(exponent, -1, (p - 1) * (q - 1))
        except ValueError:
            continue
        public = rsa.RSAPublicNumbers(exponent, p * q)
        parts = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
        return parts.private_key(unsafe_skip_rsa_key_validation=True)


def _shapes() -> Iterator[Case]:
    middle, other = MIDDLE(ROOT), ca(slot="other", name="other")
    web = leaf(middle, WEB)
    first = ca(ROOT, slot="first", name="first")
    second = ca(first, slot="second", name="second")
    yield _good("a leaf right below the root", [leaf(ROOT, WEB)])
    yield _good("a leaf below an intermediate", [web, middle])
    yield _good("the root presented too", [web, middle, ROOT])
    yield _good("the intermediate presented twice", [web, middle, middle])
    yield _good("two intermediates in the wrong order", [leaf(second, WEB), first, second])
    yield _good("an unrelated CA presented too", [web, middle, other])
    yield _good("an unrelated leaf presented too", [web, leaf(other, "spiffe://b.test/db", subject="db"), middle])
    yield _good("an authority that is an intermediate", [web], root=middle)
    yield _good("no key identifiers", [leaf(plain := MIDDLE(ROOT, key_ids=False), WEB, key_ids=False), plain])
    yield _bad("the intermediate missing", [web], "the path does not reach an authority")
    foreign = ca(slot="foreign", name="root a")
    yield _bad("a foreign root of the right name", [leaf(foreign, WEB)], "another key")
    yield _bad("a foreign root presented too", [leaf(foreign, WEB), foreign], "another key")
    cross = ca(other, slot="middle", name="middle")
    yield _bad(
        "two intermediates with one name and key, the wrong one first",
        [web, cross, middle],
        "of several with one subject and key the first counts, as in OpenSSL",
        go=True,
    )
    yield _bad(
        "a leaf whose authority key identifier names another key",
        [leaf(Issued(middle.certificate, ec.generate_private_key(ec.SECP256R1())), WEB), middle],
        "another key",
    )
    long = [ROOT]
    for depth in range(8):
        long.append(ca(long[-1], slot=f"deep {depth}", name=f"deep {depth}"))
    yield _good("the longest chain", [leaf(long[7], WEB), *long[7:0:-1]])
    yield _bad(
        "a certificate more than the longest chain",
        [leaf(long[8], WEB), *long[8:0:-1]],
        "a bound on what a stranger may cost",
        openssl=True,
        go=True,
    )


def _keys() -> Iterator[Case]:
    usable: dict[str, AnyKey] = {
        "P-256": ec.generate_private_key(ec.SECP256R1()),
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "P-521": ec.generate_private_key(ec.SECP521R1()),
        "RSA-2048": rsa.generate_private_key(65537, 2048),
        "RSA-3072": rsa.generate_private_key(65537, 3072),
        "RSA with exponent 3": rsa.generate_private_key(3, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    }
    for name, own_key in usable.items():
        yield _good(f"leaf with a key of {name}", under(own_key))
        signer = ca(slot="s", name="s", own_key=own_key)
        yield _good(f"root with a key of {name}", [leaf(signer, WEB)], root=signer)
    unusable = "not every TLS 1.3 has a signature scheme for this key"
    bounded = "a bound on what a stranger may cost"
    bits = 1024
    yield _bad("leaf with RSA-1024", under(rsa.generate_private_key(65537, bits)), "too weak for TLS", go=True)
    yield _bad("leaf with an RSA exponent above 2^32", under(_dear_rsa()), bounded, openssl=True, go=True)
    yield _bad("leaf with P-192", under(ec.generate_private_key(ec.SECP192R1())), unusable)
    yield _bad("leaf with P-224", under(ec.generate_private_key(ec.SECP224R1())), unusable, go=True)
    yield _bad("leaf with secp256k1", under(ec.generate_private_key(ec.SECP256K1())), unusable)
    yield _bad("leaf with brainpoolP256r1", under(ec.generate_private_key(ec.BrainpoolP256R1())), unusable)
    yield _bad("leaf with DSA", under(dsa.generate_private_key(2048)), unusable, go=True)
    yield _bad(
        "leaf with Ed448", under(ed448.Ed448PrivateKey.generate()), "Go's TLS does not speak it", openssl=True, go=True
    )
    weak = ca(slot="w", name="w", own_key=rsa.generate_private_key(65537, bits))
    yield _bad("root with RSA-1024", [leaf(weak, WEB)], "too weak", root=weak, go=True)
    yield _bad(
        "signature with SHA-224",
        [leaf(ROOT, WEB, digest=hashes.SHA224())],
        "wanted SHA-256, SHA-384 or SHA-512",
        openssl=True,
    )


def _leaves() -> Iterator[Case]:
    svid, tls = "X509-SVID", "TLS wants it"
    yield _good("leaf without extendedKeyUsage", [leaf(ROOT, WEB, extended=None)])
    yield _good("leaf without basicConstraints", [leaf(ROOT, WEB, is_ca=None)])
    yield _good("leaf with an empty subject and a critical SAN", [leaf(ROOT, WEB, subject=None, san_critical=True)])
    yield _good("leaf with an unknown extension", [leaf(ROOT, WEB, extra=[unknown(critical=False)])])
    yield _good("leaf with critical policies", [leaf(ROOT, WEB, extra=[policies(POLICY, critical=True)])])
    yield _bad("leaf with an unknown critical extension", [leaf(ROOT, WEB, extra=[unknown(critical=True)])], "RFC 5280")
    yield _bad("leaf that is a CA", [leaf(ROOT, WEB, is_ca=True)], svid, openssl=True)
    yield _bad("leaf for clients only", [leaf(ROOT, WEB, extended=[CLIENT])], svid, go=True)
    yield _bad("leaf for servers only", [leaf(ROOT, WEB, extended=[SERVER])], svid, go=True)
    yield _bad("leaf without keyUsage", [leaf(ROOT, WEB, usages=None)], svid, openssl=True, go=True)
    yield _bad(
        "leaf whose keyUsage is not critical", [leaf(ROOT, WEB, usage_critical=False)], svid, openssl=True, go=True
    )
    yield _bad(
        "leaf that may sign certificates",
        [leaf(ROOT, WEB, usages=["digital_signature", "key_cert_sign"])],
        svid,
        openssl=True,
    )
    yield _bad("leaf that may not sign", [leaf(ROOT, WEB, usages=["key_agreement"])], tls, openssl=True, go=True)
    yield _bad("leaf with two URIs", [leaf(ROOT, WEB, "spiffe://a.test/db")], svid, openssl=True)
    yield _bad("leaf without a URI", [leaf(ROOT, dns=["a.test"])], svid, openssl=True)
    yield _bad(
        "leaf with an empty subject and a SAN that is not critical",
        [leaf(ROOT, WEB, subject=None)],
        svid,
        openssl=True,
        go=True,
    )
    ended = any_leaf(ROOT, WEB, not_before=START, not_after=NOW - timedelta(minutes=1))
    yield _bad("leaf that has expired", [ended], "its time")
    yield _bad(
        "leaf with more than 256 names",
        [leaf(ROOT, WEB, dns=[f"{number}.a" for number in range(256)])],
        "a bound on what a stranger may cost",
        openssl=True,
        go=True,
    )


def _signers() -> Iterator[Case]:
    own = "an SVID is for clients and servers, and so has to be what signs it"
    yield _good("CA for clients and servers", below((x509.ExtendedKeyUsage([CLIENT, SERVER]), False)))
    yield _bad("CA for clients only", below((x509.ExtendedKeyUsage([CLIENT]), False)), own, go=True)
    yield _bad("CA for servers only", below((x509.ExtendedKeyUsage([SERVER]), False)), own, go=True)
    any_use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])
    yield _bad("CA for any use", below((any_use, False)), own, go=True)
    yield _good("CA whose basicConstraints and keyUsage are not critical", below(critical=False))
    yield _good("CA without cRLSign", below(usages=["key_cert_sign"]))
    yield _good("CA with an unknown extension", below(unknown(critical=False)))
    yield _bad("CA with an unknown critical extension", below(unknown(critical=True)), "RFC 5280")
    yield _bad("CA without basicConstraints", below(is_ca=None), "RFC 5280")
    yield _bad("CA that is none", below(is_ca=False), "RFC 5280")
    yield _bad("CA without keyUsage", below(usages=None), "X509-SVID", openssl=True, go=True)
    yield _bad("CA without keyCertSign", below(usages=["crl_sign"]), "RFC 5280")
    with_path = MIDDLE(ROOT, "spiffe://a.test/ca")
    yield _bad(
        "CA with a SPIFFE ID that has a path", [leaf(with_path, WEB), with_path], "X509-SVID", openssl=True, go=True
    )
    two = MIDDLE(ROOT, "spiffe://a.test", "spiffe://b.test")
    yield _bad("CA with two SPIFFE IDs", [leaf(two, WEB), two], "X509-SVID", openssl=True, go=True)
    other = MIDDLE(ROOT, "spiffe://b.test")
    yield _good("CA with another trust domain's ID", [leaf(other, WEB), other])
    ended = any_ca(ROOT, slot="middle", name="middle", not_before=START, not_after=NOW - timedelta(minutes=1))
    yield _bad("CA that has expired", [leaf(ended, WEB), ended], "its time")
    empty = ca(name=None, slot="nameless")
    yield _good("CA with an empty subject", [leaf(empty, WEB)], root=empty)
    short = ca(path_length=0, slot="short", name="short")
    under_short = ca(short, slot="middle", name="middle")
    yield _bad("more CAs than pathLenConstraint allows", [leaf(under_short, WEB), under_short], "RFC 5280", root=short)
    renewed = ca(short, slot="renewed", name="short")
    yield _good(
        "a self-issued CA, which pathLenConstraint does not count",
        [leaf(renewed, WEB), renewed],
        go=False,
        why="Go counts it",
        root=short,
    )


def _constraints() -> Iterator[Case]:
    rfc = "RFC 5280, section 4.2.1.10"
    yield _good("URIs of the trust domain permitted", below(named(uri("a.test"), None)))
    yield _good("URIs of another trust domain excluded", below(named(None, uri("b.test"))))
    yield _bad("URIs of another trust domain permitted", below(named(uri("b.test"), None)), rfc)
    yield _bad("URIs of the trust domain excluded", below(named(None, uri("a.test"))), rfc)
    yield _bad("URIs of hosts below the trust domain permitted", below(named(uri(".a.test"), None)), rfc)
    parent = named(uri("test"), None)
    yield _bad("URIs of the parent domain permitted", below(parent), "a host stands for itself: " + rfc, go=True)
    yield _good("URIs of all hosts of a domain permitted", below(named(uri(".test"), None)))
    yield _good("DNS names constrained, of which the leaf has none", below(named(dns("b.test"), None)))
    middle = MIDDLE(ROOT, extra=[named(dns("a.test"), None)])
    yield _good("DNS names permitted", [leaf(middle, WEB, dns=["web.a.test"]), middle])
    yield _bad("DNS names not permitted", [leaf(middle, WEB, dns=["web.b.test"]), middle], rfc)
    yield _bad(
        "a common name that is a host, not permitted",
        [leaf(middle, WEB, subject="web.b.test"), middle],
        "OpenSSL takes it for a DNS name",
        go=True,
    )
    ten = MIDDLE(ROOT, extra=[named([x509.IPAddress(ip_network("10.0.0.0/8"))], None)])
    yield _good("addresses permitted", [leaf(ten, WEB, ip=["10.1.2.3"]), ten])
    yield _bad("addresses not permitted", [leaf(ten, WEB, ip=["192.0.2.1"]), ten], rfc)
    narrow = ca(slot="narrow", name="narrow", extra=[named(uri("b.test"), None)])
    yield _bad("constraints of the root", [leaf(narrow, WEB)], rfc, root=narrow)
    organization = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "o")])
    yield _bad(
        "subjects permitted that the leaf's is not",
        below(named([x509.DirectoryName(organization)], None)),
        rfc,
    )
    mail = MIDDLE(ROOT, extra=[named([x509.RFC822Name("a.test")], None)])
    at = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(WEB), x509.RFC822Name("web@a.test")])
    yield _good("mailboxes permitted", [leaf(mail, extra=[(at, False)]), mail])


def _policies() -> Iterator[Case]:
    rfc = "RFC 5280, section 6.1"
    yield _good("policies on a CA", below(policies(POLICY)))
    yield _good("inhibitAnyPolicy on a CA", below((x509.InhibitAnyPolicy(0), True)))
    middle = MIDDLE(ROOT, extra=[policies(POLICY), required()])
    yield _good("a policy required, and the whole path has it", [leaf(middle, WEB, extra=[policies(POLICY)]), middle])
    yield _bad("a policy required, and the leaf has none", [leaf(middle, WEB), middle], rfc, openssl=True)
    yield _bad(
        "a policy required, and the leaf has another",
        [leaf(middle, WEB, extra=[policies(OTHER_POLICY)]), middle],
        rfc,
        openssl=True,
    )
    yield _good("a policy required, and the leaf has any", [leaf(middle, WEB, extra=[policies(ANY_POLICY)]), middle])
    strict = MIDDLE(ROOT, extra=[policies(POLICY), required(), (x509.InhibitAnyPolicy(0), True)])
    yield _bad(
        "a policy required, any inhibited, and the leaf has any",
        [leaf(strict, WEB, extra=[policies(ANY_POLICY)]), strict],
        rfc,
        openssl=True,
    )


_GROUPS: tuple[Callable[[], Iterator[Case]], ...] = (_shapes, _keys, _leaves, _signers, _constraints, _policies)
CASES = [case for group in _GROUPS for case in group()]


def table() -> str:
    """The cases as a table in Markdown."""
    lines = ["| chain | meshtls | OpenSSL | go-spiffe | why |", "|---|---|---|---|---|"]
    for case in CASES:
        verdicts = " | ".join("yes" if one else "no" for one in (case.accepted, case.openssl, case.go))
        lines.append(f"| {case.name} | {verdicts} | {case.why} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
