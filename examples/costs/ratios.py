"""Overhead over the size of what is sent: without arguments it makes the captures, with "table" it prints them."""

from __future__ import annotations

import sys

from examples.costs.network import Network
from examples.costs.table import connections
from examples.costs.talk import Authority, Talk, contexts

_SIZES = (1, 100, 1000, 10_000, 100_000)
_WAYS = ("no TLS", "TLS 1.2", "TLS 1.3", "1.3 resumed")


def _make() -> None:
    authority = Authority()
    with Network("ratios"):
        for size in _SIZES:
            Talk(size=size)
            Talk("full12", contexts(authority, "1.2"), size=size)
            made = contexts(authority)
            first = Talk("full13", made, size=size)
            Talk("resumed13", made, size=size, session=first.session)


def _print() -> None:
    ratios = [one["overhead"] for one in connections("ratios-client.pcap")]
    print("bytes each way", *(f"{way:>12}" for way in _WAYS))
    for at, size in enumerate(_SIZES):
        row = ratios[at * len(_WAYS) : (at + 1) * len(_WAYS)]
        print(f"{size:>14}", *(f"{ratio:>12.2f}" for ratio in row))


if __name__ == "__main__":
    _print() if sys.argv[1:] == ["table"] else _make()
