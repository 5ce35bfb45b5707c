"""One pass over captures: packets in, a record of each connection out as soon as it is over. Bounded. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import msgspec

from meshtls.capture.analysis.bundles import CaptureBundle
from meshtls.capture.analysis.connection import Connection
from meshtls.capture.analysis.watching import Watched
from meshtls.capture.files.packet import FileError
from meshtls.capture.files.reading import CaptureReader, read_packets
from meshtls.capture.files.secrets_ahead import most_secrets
from meshtls.capture.flow import Ending, Flow
from meshtls.capture.keylog import KeyLog
from meshtls.capture.memory import MemoryPool
from meshtls.capture.packets import Totals
from meshtls.capture.synthetic import SYNTHETIC_HEADERS
from meshtls.capture.tcp import Flows
from meshtls.wire.side import Side

__all__ = ["Analysis", "Progress"]

#: Connections that are over and whose last packets, such as the ACK of a FIN, may still come.
_LINGERING = 64
_PROGRESS = 1 << 14
#: Bytes of a connection that wait for secrets, which a pcapng file may have after the packets that they decrypt, at any
#: place.
_AWAITED = 1 << 16


class Progress(NamedTuple):
    """How far it is."""

    packets: int
    wire_bytes: int


class Analysis:
    """The connections of one capture. Iterate over it; afterwards ``packets``, ``wire_bytes``, ``totals`` and
    ``error`` are complete.

    ``keys``: secrets beside those in the file itself. ``memory``: what its connections may keep, together.
    """

    def __init__(
        self,
        stream: BinaryIO,
        keys: KeyLog | None = None,
        bundle: CaptureBundle | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        keep: Callable[[Watched], None] | None = None,
        before: int = 0,
        memory: MemoryPool | None = None,
    ) -> None:
        """``keep`` is called with each connection when it is over, for its details. ``before``: the number of
        connections of earlier captures, after which those of this one count.
        """
        self.connections = 0
        self.memory = memory or MemoryPool()
        self._before = before
        #: Blocks of secrets that may still come; None where that is not known.
        self._secrets_left = most_secrets(stream)
        self.reader: CaptureReader = read_packets(stream)
        self.packets = self.wire_bytes = 0
        self._keys, self._bundle = keys, bundle
        self._progress, self._keep = progress, keep
        self._opened_one = False
        self._over: deque[_Sink] = deque()
        self.flows = Flows(self._opened)

    @property
    def totals(self) -> Totals:
        """Packets of no connection."""
        return self.flows.totals

    @property
    def error(self) -> FileError | None:
        """Where the file breaks."""
        return self.reader.error

    def __iter__(self) -> Iterator[Connection]:
        take, over, progress = self.flows.packet, self._over, self._progress
        packets = iter(self.reader)
        secrets = self.reader.secrets  # the reader goes on adding to it
        for packet in packets:
            if secrets:
                self._take_secrets()
            self.packets += 1
            self.wire_bytes += packet.original_length
            take(packet)
            if len(over) > _LINGERING:
                yield self._record(over.popleft())
            if progress is not None and not self.packets % _PROGRESS:
                progress(Progress(self.packets, self.wire_bytes))
        self.flows.finish()
        while over:
            yield self._record(over.popleft())

    def _opened(self, flow: Flow) -> _Sink:
        if not self._opened_one:
            self._opened_one = True
            awaits = self.reader.format == "pcapng" and self._secrets_left != 0
            if awaits:
                self._keys = self._keys or KeyLog()
            if self._keys is not None:
                self._keys.awaited = _AWAITED if awaits else 0
        sink = _Sink(flow, self._keys, self._bundle, self.memory, self._over)
        sink.synthetic = self.reader.interfaces[flow.interface].description == SYNTHETIC_HEADERS
        return sink

    def _take_secrets(self) -> None:
        if self._keys is None:
            self._keys = KeyLog()
        if self._secrets_left is not None:
            self._secrets_left -= len(self.reader.secrets)
        for secrets in self.reader.secrets:
            self._keys.feed(secrets)
            self._keys.finish()
        self.reader.secrets.clear()
        if self._secrets_left == 0:
            self._keys.awaited = 0

    def _record(self, sink: _Sink) -> Connection:
        sink.settle_roles(self.flows.servers)
        if self._keep is not None:
            self._keep(sink)
        self.connections += 1
        found = sink.record()
        sink.release()
        return msgspec.structs.replace(found, number=found.number + self._before) if self._before else found


class _Sink(Watched):
    """Joins those that are over when both sides have ended."""

    __slots__ = ("_over",)

    def __init__(
        self,
        flow: Flow,
        keys: KeyLog | None,
        bundle: CaptureBundle | None,
        memory: MemoryPool,
        over: deque[_Sink],
    ) -> None:
        super().__init__(flow, keys, bundle, memory)
        self._over = over

    def ended(self, side: Side, how: Ending, time_ns: int) -> None:
        """Part of ``FlowSink``."""
        super().ended(side, how, time_ns)
        if not self.open_sides:
            self._over.append(self)
