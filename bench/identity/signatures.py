"""Signatures of a CA's key in memory and in a PKCS#11 token, and the leaves that they sign."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bench.identity.figures import Figure, MissingError, Progress, Scale
from bench.token import KINDS, Cost, missing, token_costs

__all__ = ["measure_signatures"]

_PART = "signatures"
_PLACES = {"memory": "in memory", "token": "in a PKCS#11 token"}


async def measure_signatures(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    """SoftHSM2 computes in this process, so its time is CPU. Raises MissingError without it."""
    if why := missing():
        raise MissingError(why)
    return await asyncio.to_thread(_measured, directory / "hsm", scale, progress)


def _measured(directory: Path, scale: Scale, progress: Progress) -> list[Figure]:
    figures: list[Figure] = []
    for number, one in enumerate(token_costs(directory, scale.signature_seconds)):
        progress(f"[{number + 1}/{2 * len(KINDS)}] {one.key}, {one.where}: {1e6 / one.signature:,.0f} signatures/s")
        figures += _figures(one)
    return figures


def _figures(one: Cost) -> list[Figure]:
    name = f"{one.key} {_PLACES[one.where]}"
    return [
        Figure(_PART, f"{name}, signatures", 1e6 / one.signature, "1/s", "per second of CPU"),
        Figure(_PART, f"{name}, leaves", 1e6 / one.leaf, "1/s", "checked by the leaf rules; per second of CPU"),
    ]
