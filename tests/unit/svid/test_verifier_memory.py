"""What a verifier remembers of many peers, and that many threads may ask it at once."""

from __future__ import annotations

import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.errors import UntrustedPeerError
from meshtls.svid.trust import Trust
from meshtls.svid.verifier import PeerVerifier
from tests.support.authority import make_authority, svid_for
from tests.support.clock import ManualClock

CLOCK = ManualClock()
AUTHORITY = make_authority(clock=CLOCK)
TRUST = Trust(1, BundleSet([AUTHORITY.bundle]))
THREADS, TIMES = 8, 150
CHAINS = 3


def chains(count: int) -> list[list[bytes]]:
    svids = [svid_for(AUTHORITY, f"/{number}") for number in range(count)]
    return [[certificate.public_bytes(Encoding.DER) for certificate in svid.chain] for svid in svids]


@pytest.mark.parametrize(("leaves", "known"), [(3, True), (2, False)], ids=["room for all", "one too many"])
def test_a_leaf_is_recognized_after_more_chains_than_the_cache_holds(leaves: int, known: bool) -> None:
    verifier, all_of_them = PeerVerifier(TRUST, size=1, leaves=leaves), chains(3)
    first, *_ = peers = [verifier.verify(chain, CLOCK.now()) for chain in all_of_them]
    assert repr(verifier) == "<PeerVerifier [1 of 1 remembered]>"
    if not known:
        with pytest.raises(UntrustedPeerError, match="a full handshake is required$"):
            verifier.verify_again(all_of_them[0][0], CLOCK.now())
        return
    again = verifier.verify_again(all_of_them[0][0], CLOCK.now())
    assert again == first
    assert again is not first
    assert [verifier.verify_again(chain[0], CLOCK.now()) for chain in all_of_them] == peers


def test_a_returning_leaf_is_not_evicted() -> None:
    verifier, (first, second, third) = PeerVerifier(TRUST, leaves=2), chains(3)
    verifier.verify(first, CLOCK.now())
    verifier.verify(second, CLOCK.now())
    verifier.verify_again(first[0], CLOCK.now())
    verifier.verify(third, CLOCK.now())
    verifier.verify_again(first[0], CLOCK.now())
    with pytest.raises(UntrustedPeerError):
        verifier.verify_again(second[0], CLOCK.now())


def test_the_issuers_of_many_leaves_are_kept_once() -> None:
    verifier = PeerVerifier(TRUST)
    for chain in chains(3):
        verifier.verify([bytes(bytearray(one)) for one in chain], CLOCK.now())
    assert len(verifier._above) == 3
    assert len({id(above) for above in verifier._above.values()}) == 1


def test_remembered_issuers_of_many_domains_are_bounded() -> None:
    domains = [make_authority(f"{number}.test", CLOCK) for number in range(5)]
    verifier = PeerVerifier(Trust(1, BundleSet([one.bundle for one in domains])), size=2)
    for authority in domains:
        svid = svid_for(authority, "/web")
        verifier.verify([one.public_bytes(Encoding.DER) for one in svid.chain], CLOCK.now())
    assert len(verifier._shared) <= 2


class GivesWay(OrderedDict[Any, Any]):
    """Lets another thread go on between any two steps."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        time.sleep(0)

    def get(self, key: Any, default: Any = None) -> Any:
        value = super().get(key, default)
        time.sleep(0)
        return value


def test_concurrent_threads_get_consistent_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = chains(CHAINS)
    answers = {chain[0]: PeerVerifier(TRUST).verify(chain, CLOCK.now()) for chain in all_of_them}
    # The signatures are the same work for all; without it more of the time is spent where threads can meet.
    monkeypatch.setattr("meshtls.svid.verifier.verify_peer", lambda chain, bundles, now: answers[chain[0]])
    verifier = PeerVerifier(TRUST, size=CHAINS - 1, leaves=CHAINS)
    verifier._passed, verifier._above = GivesWay(), GivesWay()

    def hammer(number: int) -> None:
        for turn in range(TIMES):
            chain = all_of_them[(number + turn) % CHAINS]
            assert verifier.verify(chain, CLOCK.now()) is answers[chain[0]]
            assert verifier.verify_again(chain[0], CLOCK.now()) is answers[chain[0]]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(hammer, range(THREADS)))
    assert repr(verifier) == "<PeerVerifier [2 of 2 remembered]>"
