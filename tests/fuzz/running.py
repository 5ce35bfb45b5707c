"""How a fuzz target is run: a few examples in the suite, and for FUZZ_SECONDS each with ``make fuzz``.

A target passes hostile input to a parser. The result has to be a value, or the parser's documented error, and the work
has to be bounded. Work is counted in function calls, Python's and C's, and not in time, since a machine may be slow.
Matching a regular expression is a single call; ``tests/unit/test_regexes.py`` covers those.

Each input is counted, and ``make fuzz`` ends with the counts.

With ``FUZZ_SEED`` a target makes the same choices in the same order each time, so that a failure is caused by the
change under test; and no more than a fixed number of them, since a faster machine would find others. Keys, signatures
and times in the samples are new in each run. Without ``FUZZ_SEED`` the choices are new too.

The suite turns warnings into errors. Here they are ignored, in the whole target: the library warns of odd certificates,
and a target that reads its own result once more has to get the same answer.
"""

from __future__ import annotations

import functools
import os
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

__all__ = ["SECONDS", "documented", "fuzzed", "hammered", "inputs_tried", "spliced"]

T = TypeVar("T")

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
_SEED = os.environ.get("FUZZ_SEED")
_EXAMPLES = 100 if SECONDS else 25
#: The most rounds of examples with a seed: of ``fuzzed``, and of ``hammered``.
_ROUNDS, _HAMMERED_ROUNDS = 20, 200
_CHECKS = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.filter_too_much,
    HealthCheck.large_base_example,
]
_CALLS, _CALLS_PER_BYTE = 20_000, 100
_tried = 0


def fuzzed(target: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Run the target on examples of the strategies until its time is up; at least once."""

    @functools.wraps(target)
    def counted(*given: object, **named: object) -> None:
        global _tried
        _tried += 1
        with _no_warnings():
            target(*given, **named)

    more = _rounds(_ROUNDS)
    seeds = random.Random(f"{_SEED} {target.__module__} {target.__qualname__}" if _SEED else None)  # noqa: S311
    # Without FUZZ_SECONDS the same examples each time: a failure of the suite has to be caused by the change.
    rules = settings(
        max_examples=_EXAMPLES, derandomize=not SECONDS, suppress_health_check=_CHECKS, deadline=None, database=None
    )
    while True:
        run = given(*strategies)(counted)
        rules(seed(seeds.getrandbits(64))(run) if SECONDS else run)()
        if not more():
            return


def _rounds(most: int) -> Callable[[], bool]:
    """Returns what says, after each round, whether there is another one."""
    end = time.monotonic() + SECONDS
    done = 0

    def more() -> bool:
        nonlocal done
        done += 1
        return time.monotonic() < end and not (_SEED and done >= most)

    return more


def hammered(read: Callable[[bytes], object], samples: Sequence[bytes], *errors: type[Exception]) -> None:
    """Give ``read`` altered samples, as many as its time allows: a hundred times as many as ``fuzzed``, which chooses
    better ones and counts calls. It may raise its documented errors alone.

    Raises AssertionError with the input that made it raise another one.
    """
    global _tried
    chance = random.Random(f"{_SEED} {read.__module__} {read.__qualname__}" if _SEED or not SECONDS else None)  # noqa: S311
    more = _rounds(_HAMMERED_ROUNDS)
    while True:
        with _no_warnings():
            for _ in range(_EXAMPLES):
                data = altered(chance, samples)
                _tried += 1
                try:
                    read(data)
                except errors:
                    pass
                except Exception as error:
                    raise AssertionError(f"{error!r} for the input {data.hex()}") from error
        if not more():
            return


def altered(chance: random.Random, samples: Sequence[bytes]) -> bytes:
    """One of the samples with up to four bits, bytes or stretches of it changed."""
    data = bytearray(chance.choice(samples))
    for _ in range(chance.randrange(1, 5)):
        at, kind = chance.randrange(len(data) + 1), chance.randrange(6)
        length = chance.choice((1, 2, 3, 4, 8, chance.randrange(1, 64), len(data)))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(data):
            data[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        elif kind == 2:
            del data[at : at + length]
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            other = chance.choice(samples)
            start = chance.randrange(len(other) + 1)
            data[at : at + length] = other[start : start + length]
        else:
            data[at : at + min(length, 8)] = chance.randbytes(min(length, 8))
    return bytes(data[: 1 << 16])


@contextmanager
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def inputs_tried() -> int:
    """How many inputs the targets of this process have been run on."""
    return _tried


def documented(
    read: Callable[[], T], *errors: type[Exception], size: int, calls: int = _CALLS, per_byte: int = _CALLS_PER_BYTE
) -> T | None:
    """The result of ``read``; None if it raises one of its documented errors, whose text has to be printable.

    ``size`` is the input's length in bytes: ``read`` may make at most ``calls`` calls, and ``per_byte`` for each byte.
    """
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    value: T | None = None
    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        with suppress(*errors):
            value = read()
    finally:
        sys.setprofile(before)
    assert count <= calls + per_byte * size, f"{count} calls for {size} bytes"
    return value


@st.composite
def spliced(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of the samples with a few parts overwritten, removed, doubled, or taken from another sample."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        length = draw(st.integers(0, 8) | st.integers(0, len(data)))
        kind = draw(st.sampled_from(("flip", "bytes", "cut", "double", "other")))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "bytes":
            data[at : at + length] = draw(st.binary(max_size=8))
        elif kind == "cut":
            del data[at : at + length]
        elif kind == "double":
            data[at:at] = data[at : at + length]
        else:
            other = draw(st.sampled_from(samples))
            data[at:at] = other[at : at + length]
    return bytes(data[: 1 << 16])
