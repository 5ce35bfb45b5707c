"""What a peer sends is bytes of its own choosing: ``verify_peer`` answers all of them with a peer or a PeerError."""

import warnings
from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import InvalidSvidError, PeerError, UntrustedPeerError
from meshtls.svid.verify import MAX_CHAIN, verify_peer
from tests.support.certs import NOW, ca, leaf
from tests.support.verifying import EXHAUSTED, INTERMEDIATE, ROOT, WEB, accepted, no_path, refusal, trusting

LEAF = leaf(INTERMEDIATE, WEB, dns=["web.test"], ip=["10.0.0.1"])
CHAIN = [LEAF.der, INTERMEDIATE.der]
TRUSTED = trusting(ROOT)


def answer(*chain: bytes) -> str:
    with pytest.raises(InvalidSvidError) as caught:
        verify_peer(chain, TRUSTED, NOW)
    return str(caught.value)


def test_the_chain_that_these_tests_spoil_is_a_good_one() -> None:
    assert verify_peer(CHAIN, TRUSTED, NOW).leaf == LEAF.certificate


def test_an_empty_chain_is_refused() -> None:
    assert answer() == "peer's chain: wanted 1 to 8 certificates, got 0"


def test_a_chain_that_is_too_long_is_refused_before_it_is_read() -> None:
    assert accepted([LEAF, *[INTERMEDIATE] * (MAX_CHAIN - 1)], TRUSTED)
    assert answer(LEAF.der, *[b"junk"] * MAX_CHAIN) == "peer's chain: wanted 1 to 8 certificates, got more than 8"


@pytest.mark.parametrize(
    ("chain", "place"),
    [
        pytest.param([b"junk", INTERMEDIATE.der], 0, id="a leaf of junk"),
        pytest.param([LEAF.der, b"junk"], 1, id="an intermediate of junk"),
        pytest.param([b""], 0, id="an empty leaf"),
        pytest.param([LEAF.der[:-1]], 0, id="a leaf cut short"),
        pytest.param([LEAF.der + b"\0"], 0, id="a byte behind the leaf"),
        pytest.param([LEAF.der + INTERMEDIATE.der], 0, id="two certificates in the place of one"),
    ],
)
def test_an_invalid_certificate_is_refused_with_its_position(chain: list[bytes], place: int) -> None:
    assert answer(*chain).startswith(f"certificate {place} of the chain is no X.509 certificate: ")


def test_an_unknown_version_of_x509_is_refused() -> None:
    spoiled = LEAF.der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
    assert answer(spoiled) == "certificate 0 of the chain is no X.509 certificate: 7 is not a valid X509 version"


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        pytest.param(b"\x0c\x03web", b"\x1e", id="a subject whose text can't be decoded"),
        pytest.param(b"\x0c\x03web", b"\x03", id="a subject that is no text"),
        pytest.param(b"\x0c\x0cintermediate", b"\x0e", id="an issuer of a kind that is unknown"),
    ],
)
def test_a_name_that_cannot_be_read_is_refused(name: bytes, tag: bytes) -> None:
    assert LEAF.der.count(name) == 1
    message = answer(LEAF.der.replace(name, tag + name[1:]), INTERMEDIATE.der)
    assert message.startswith(
        ("certificate 0 of the chain is no X.509 certificate: ", "peer's certificate abc123 is no X509-SVID: its names")
    )


def test_a_certificate_is_refused_with_every_leaf_rule_it_breaks() -> None:
    bad = leaf(INTERMEDIATE, usages=None)
    message = refusal(InvalidSvidError, [bad, INTERMEDIATE], TRUSTED)
    assert message == (
        "peer's certificate abc123 is no X509-SVID:"
        " wanted exactly one URI SAN, got 0; wanted the keyUsage extension, got none"
    )


def test_a_leaf_with_an_unknown_critical_extension_is_refused() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
    assert accepted([leaf(INTERMEDIATE, WEB, extra=[(unknown, False)]), INTERMEDIATE], TRUSTED)
    message = refusal(InvalidSvidError, [leaf(INTERMEDIATE, WEB, extra=[(unknown, True)]), INTERMEDIATE], TRUSTED)
    assert message.endswith("its critical extension 1.3.6.1.4.1.55555.1 is not one that is understood here")


def test_the_search_over_cas_signed_in_a_circle_is_bounded() -> None:
    # A search from the leaf up can try every path: 7 such certificates are 7**7 signatures, which takes hours.
    circle = [ca(slot="evil", name="evil", not_after=NOW + timedelta(hours=hours)) for hours in range(1, MAX_CHAIN)]
    message = refusal(UntrustedPeerError, [leaf(circle[0], WEB), *circle], TRUSTED)
    assert message == no_path("CN=evil", EXHAUSTED)


@given(st.lists(st.binary(max_size=80), max_size=MAX_CHAIN + 1))
def test_any_bytes_are_a_named_error(chain: list[bytes]) -> None:
    with pytest.raises(PeerError):
        verify_peer(chain, TRUSTED, NOW)


@given(st.sampled_from([0, 1]), st.data())
def test_no_changed_byte_gets_past_the_signatures_or_raises_another_error(place: int, data: st.DataObject) -> None:
    der = bytearray(CHAIN[place])
    for _ in range(data.draw(st.integers(1, 2))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    chain = [*CHAIN[:place], bytes(der), *CHAIN[place + 1 :]]
    with warnings.catch_warnings():
        # The library warns of serial numbers and the like that RFC 5280 forbids; that is no refusal, and no error here.
        warnings.simplefilter("ignore")
        try:
            peer = verify_peer(chain, TRUSTED, NOW)
        except PeerError:
            return
    assert peer.leaf.tbs_certificate_bytes == LEAF.certificate.tbs_certificate_bytes
    assert peer.chain[1].tbs_certificate_bytes == INTERMEDIATE.certificate.tbs_certificate_bytes
