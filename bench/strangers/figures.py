"""The results of a run: the cost of each stranger at each peer, round by round, and the ranges. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec

from bench.report import Machine, PeerInfo

__all__ = ["FULL", "QUICK", "Cell", "Range", "Scale", "StrangerInfo", "StrangersReport", "Summary", "summarize"]

FOREIGN = "foreign-certificate"


class Scale(msgspec.Struct, frozen=True, kw_only=True):
    """The scale of a run.

    - ``sweep``: this many strangers present each kind of chain before the costliest is chosen.
    - ``storm_seconds``: no new strangers arrive after that, which bounds a storm if a server keeps each waiting.
    - ``kinds``: the number of kinds of chains to try, instead of all.
    """

    handshakes: int
    held: int
    held_seconds: float
    connections: int
    resets: int
    messages: int
    message_bytes: int
    guesses: int
    sweep: int
    calm_seconds: float
    beside_seconds: float
    storm_seconds: float
    kinds: int | None = None


FULL = Scale(
    handshakes=400,
    held=1200,
    held_seconds=3.0,
    connections=400,
    resets=500,
    messages=60,
    message_bytes=64 << 20,
    guesses=300,
    sweep=24,
    calm_seconds=1.5,
    beside_seconds=3.0,
    storm_seconds=15.0,
)
QUICK = Scale(
    handshakes=100,
    held=200,
    held_seconds=1.0,
    connections=100,
    resets=500,
    messages=16,
    message_bytes=64 << 20,
    guesses=100,
    sweep=8,
    calm_seconds=1.0,
    beside_seconds=1.5,
    storm_seconds=5.0,
)


class StrangerInfo(msgspec.Struct, frozen=True):
    """A stranger's name and description."""

    name: str
    title: str
    listener: str


class Cell(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stranger at one peer in one round, or the error.

    - ``cpu_ms``, ``sent_bytes``, ``received_bytes`` (both by the server): for each refused stranger.
    - ``memory_kib``: the server's peak growth, divided by ``strangers``.
    - ``wait_s``, ``calm_wait_s``: the longest time that a friendly client waited for a byte of the app, with strangers
      and without.
    - ``friends``, ``friends_failed``: the friendly calls beside the strangers, and the failed ones among them;
      ``friend_error`` is the error of the last.
    - ``cut``: the strangers that the server had disconnected when they left.
    """

    peer: str
    stranger: str
    round: int
    strangers: int = 0
    cut: int = 0
    cpu_ms: float | None = None
    sent_bytes: float | None = None
    received_bytes: float | None = None
    memory_kib: float | None = None
    wait_s: float | None = None
    calm_wait_s: float | None = None
    friends: int = 0
    friends_failed: int = 0
    friend_error: str = ""
    chain: str = ""
    error: str | None = None


class Range(msgspec.Struct, frozen=True):
    """Median, minimum and maximum over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        return cls(statistics.median(values), min(values), max(values))


class Summary(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stranger at a peer over all rounds. ``of_foreign`` is its CPU divided by that of a foreign certificate, at the
    same peer in the same round.
    """

    peer: str
    stranger: str
    rounds: int
    cpu_ms: Range
    sent_bytes: Range
    received_bytes: Range
    memory_kib: Range
    wait_s: Range | None
    calm_wait_s: Range | None
    of_foreign: Range | None
    strangers: int
    cut: int
    friends: int
    friends_failed: int
    chains: list[str]


class StrangersReport(msgspec.Struct, frozen=True):
    """The whole report, as written to JSON."""

    started: str
    machine: Machine
    scale: Scale
    peers: list[PeerInfo]
    strangers: list[StrangerInfo]
    cells: list[Cell]
    summary: list[Summary]

    def find(self, peer: str, stranger: str) -> Summary | None:
        """The summary of one stranger at one peer, if it was measured."""
        return next((one for one in self.summary if (one.peer, one.stranger) == (peer, stranger)), None)

    def errors(self) -> list[Cell]:
        """The measurements that failed."""
        return [cell for cell in self.cells if cell.error is not None]


def summarize(cells: Sequence[Cell]) -> list[Summary]:
    """One for each stranger and peer with a figure, in the order of their first measurement."""
    good = [cell for cell in cells if cell.error is None]
    foreign = {(cell.peer, cell.round): cell.cpu_ms for cell in good if cell.stranger == FOREIGN}
    return [
        _summary([cell for cell in good if (cell.peer, cell.stranger) == pair], foreign)
        for pair in dict.fromkeys((cell.peer, cell.stranger) for cell in good)
    ]


def _summary(cells: Sequence[Cell], foreign: dict[tuple[str, int], float | None]) -> Summary:
    def known(figure: Callable[[Cell], float | None]) -> Range | None:
        values = [value for value in map(figure, cells) if value is not None]
        return Range.of(values) if values else None

    def certain(figure: Callable[[Cell], float | None]) -> Range:
        return Range.of([figure(cell) or 0.0 for cell in cells])

    def of_foreign(cell: Cell) -> float | None:
        base = foreign.get((cell.peer, cell.round))
        return cell.cpu_ms / base if base and cell.cpu_ms is not None else None

    return Summary(
        peer=cells[0].peer,
        stranger=cells[0].stranger,
        rounds=len(cells),
        cpu_ms=certain(lambda cell: cell.cpu_ms),
        sent_bytes=certain(lambda cell: cell.sent_bytes),
        received_bytes=certain(lambda cell: cell.received_bytes),
        memory_kib=certain(lambda cell: cell.memory_kib),
        wait_s=known(lambda cell: cell.wait_s),
        calm_wait_s=known(lambda cell: cell.calm_wait_s),
        of_foreign=known(of_foreign),
        strangers=sum(cell.strangers for cell in cells),
        cut=sum(cell.cut for cell in cells),
        friends=sum(cell.friends for cell in cells),
        friends_failed=sum(cell.friends_failed for cell in cells),
        chains=sorted({cell.chain for cell in cells} - {""}),
    )
