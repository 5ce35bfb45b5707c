"""Many entries at once: as one change, all or none, or each for itself."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from meshtls.cli.output import Output, Record, tell, tell_progress
from meshtls.errors import RequestError

__all__ = ["Batch", "apply_batch"]

T = TypeVar("T")
#: Changes in one message, where each is for itself.
_CHUNK = 500


@dataclass(slots=True)
class Batch:
    """What became of each: ``done`` are records, ``failed`` a name and a reason each."""

    done: list[Record] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)

    def tell(self, out: Output, verb: str) -> int:
        """Print it; gives the exit code, 1 where one failed."""
        failed = [{"entry": name, "message": message} for name, message in self.failed]
        if out.as_json:
            out.record({verb: self.done, "failed": failed})
        else:
            tell(f"{verb} {len(self.done)} of {len(self.done) + len(failed)} entries")
            for name, message in self.failed:
                tell(f"{name}: {message}", err=True)
        return 1 if failed else 0


async def apply_batch(
    items: Sequence[tuple[str, T]],
    change: Callable[[Sequence[T]], Awaitable[Sequence[Record]]],
    *,
    all_or_none: bool,
) -> Batch:
    """``items`` have a name for messages each. ``change`` does some of them, all or none.

    Unless ``all_or_none``, those that can be done are done. Raises what ``change`` raises where it is one change, and
    what says that the server can't be asked.
    """
    batch = Batch()
    if all_or_none:
        batch.done.extend(await change([item for _, item in items]))
        return batch
    for start in range(0, len(items), _CHUNK):
        await _apply_some(items[start : start + _CHUNK], change, batch)
        _show_progress(min(start + _CHUNK, len(items)), len(items))
    return batch


async def _apply_some(
    items: Sequence[tuple[str, T]], change: Callable[[Sequence[T]], Awaitable[Sequence[Record]]], batch: Batch
) -> None:
    try:
        batch.done.extend(await change([item for _, item in items]))
    except RequestError as error:
        if len(items) == 1:
            batch.failed.append((items[0][0], str(error)))
            return
        # Find which one it is by halves: the rest is done in messages as large as can be.
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            await _apply_some(half, change, batch)


def _show_progress(done: int, of: int) -> None:
    if of > _CHUNK and sys.stderr.isatty():
        tell_progress(f"{done} of {of} entries", last=done == of)
