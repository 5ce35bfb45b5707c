"""Finds the costliest chain of ``bench.hostile_chains`` for a peer, by trying all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import islice

from bench.hostile_chains import HostileChain, hostile_chains
from bench.strangers.attacks import Attack, chains_presented
from bench.strangers.costs import rested_cpu
from bench.strangers.targets import Target

__all__ = ["chain_named", "dearest_at_first", "dearest_sustained"]

Opening = Callable[[], AbstractAsyncContextManager[Attack]]
# Ours accepts 32 large handshakes before it limits them: the number of kinds at one listener stays within that.
_FIRST, _KINDS_AT_A_LISTENER = 4, 7
_SPENT = 48


def chain_named(name: str, target: Target) -> HostileChain:
    """The chain with this name, made anew for this listener."""
    return next(chain for chain in _chains(target) if chain.name == name)


async def dearest_sustained(opening: Opening, count: int) -> str:
    """The chain that costs most CPU for each of ``count`` strangers, once the budgets for the first are used up."""
    async with opening() as attack:
        chains = _tried(attack)
        largest = max(chains, key=lambda chain: sum(map(len, chain.certificates)))
        await chains_presented(attack, _SPENT, largest)
        spent = [(await _cpu(attack, chain, count), chain.name) for chain in chains]
    return max(spent)[1]


async def dearest_at_first(opening: Opening) -> str:
    """The same for the first few strangers at a newly started listener."""
    spent: list[tuple[float, str]] = []
    names: list[str] | None = None
    while names is None or len(spent) < len(names):
        async with opening() as attack:
            chains = _tried(attack)
            names = [chain.name for chain in chains]
            place = len(spent)
            spent += [
                (await _cpu(attack, chain, _FIRST), chain.name)
                for chain in chains[place : place + _KINDS_AT_A_LISTENER]
            ]
    return max(spent)[1]


def _tried(attack: Attack) -> list[HostileChain]:
    return list(islice(_chains(attack.target), attack.scale.kinds))


def _chains(target: Target) -> Iterator[HostileChain]:
    claims = target.claims
    if claims is None:
        raise ValueError("wanted a listener for mutual TLS")
    return hostile_chains(claims.spiffe_id, claims.authorities, claims.captured)


async def _cpu(attack: Attack, chain: HostileChain, count: int) -> float:
    before = await rested_cpu(attack.target.pids)
    await chains_presented(attack, count, chain)
    return (await rested_cpu(attack.target.pids) - before) / count
