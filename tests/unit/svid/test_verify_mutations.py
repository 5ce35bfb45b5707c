"""Good and hostile chains that are spoiled: ``verify_peer`` answers all of them with a peer or a PeerError."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.hostile_chains import hostile_chains
from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import PeerError
from meshtls.spiffeid import TrustDomain
from meshtls.svid.verify import verify_peer
from tests.support.authority import make_authority
from tests.support.certs import NOW, ca, leaf
from tests.support.chain_table import CASES, WEB

A = TrustDomain("a.test")
AUTHORITY = make_authority("a.test")
CHAINS = [(tuple(one.der for one in case.chain), case.authorities) for case in CASES] + [
    (chain.certificates, CASES[0].authorities)
    for chain in hostile_chains(WEB, [CASES[0].authorities[0].certificate])
    if sum(map(len, chain.certificates)) < 9_000
]
#: Elements that parsers take for something else than was meant, or stumble over.
PIECES = [
    b"\x30\x00",
    b"\x05\x00",
    b"\x30\x80",
    b"\x02\x01\x80",
    b"\x02\x00",
    b"\xff",
    b"\x1f\x85",
    b"\x30\x84\xff\xff\xff\xff",
    b"\x17\x0d990230000000Z",
]
pytestmark = pytest.mark.filterwarnings("ignore")  # what the library warns of is no refusal


def mutated(data: st.DataObject, der: bytes) -> bytes:
    """This certificate, spoiled in one place."""
    place = data.draw(st.integers(0, max(len(der) - 1, 0)))
    how = data.draw(st.sampled_from(["byte", "piece", "over", "cut", "double"]))
    if how == "byte":
        return der[:place] + bytes((data.draw(st.integers(0, 255)),)) + der[place + 1 :]
    if how == "piece":
        return der[:place] + data.draw(st.sampled_from(PIECES)) + der[place:]
    if how == "over":
        piece = data.draw(st.sampled_from(PIECES))
        return der[:place] + piece + der[place + len(piece) :]
    end = data.draw(st.integers(place, min(len(der), place + 40)))
    return der[:place] + (b"" if how == "cut" else der[place:end] * 2) + der[end:]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(CHAINS), st.data())
def test_a_mutated_chain_is_accepted_or_refused_and_raises_nothing_else(
    case: tuple[tuple[bytes, ...], tuple[object, ...]], data: st.DataObject
) -> None:
    chain, authorities = list(case[0]), case[1]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(chain) - 1))
        chain[place] = mutated(data, chain[place])
    trusted = tuple(one.certificate for one in authorities)  # type: ignore[attr-defined]
    try:
        peer = verify_peer(chain, BundleSet([TrustBundle(A, trusted)]), datetime.now(UTC))
    except PeerError:
        return
    # What is accepted is what was signed: a change was in what does not count.
    signed = {one.certificate.tbs_certificate_bytes for case in CASES for one in case.chain}
    assert {one.tbs_certificate_bytes for one in peer.chain} <= signed


KNOWN = [
    value
    for name, value in vars(ExtensionOID).items()
    if isinstance(value, x509.ObjectIdentifier) and not name.startswith("_")
]
SOUND = [
    b"\x30\x00",
    b"\x03\x02\x07\x80",
    bytes.fromhex("300aa00830068704") + b"\1\2\3\4",
    b"\x04\x04key1",
    b"\x02\x01\x05",
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KNOWN), st.sampled_from(SOUND) | st.binary(max_size=40), st.booleans(), st.booleans())
def test_an_odd_extension_that_a_trusted_ca_signed_raises_nothing_else(
    oid: x509.ObjectIdentifier, value: bytes, critical: bool, on_leaf: bool
) -> None:
    odd = [(x509.UnrecognizedExtension(oid, value), critical)]
    root = ca(slot="sound", name="sound")
    middle = ca(root, slot="odd", name="odd", key_ids=False, usages=None, is_ca=None, extra=[] if on_leaf else odd)
    web = leaf(root if on_leaf else middle, key_ids=False, usages=None, is_ca=None, extended=None, extra=odd)
    trusted = TrustBundle(A, (root.certificate,))
    for chain in ([web.der, middle.der], [leaf(middle, WEB).der, middle.der]):
        with pytest.raises(PeerError):
            verify_peer(chain, BundleSet([trusted]), NOW)
