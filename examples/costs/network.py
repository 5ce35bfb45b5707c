"""A network between two hosts, within one process: with a delay, with faults, and with a capture at each host.

It is a TUN interface, whose IP packets come to this process. A packet to 10.0.0.2 goes back with its two addresses
swapped, so both hosts are this machine: the client calls 10.0.0.2, and the server, at 10.0.0.1, is called from there.
The checksums stay right, since they are sums. TCP is the kernel's own.
"""

from __future__ import annotations

import fcntl
import heapq
import itertools
import os
import select
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

from meshtls.capture.files.writing import PcapWriter

__all__ = ["Network"]

HERE, THERE, PORT = "10.0.0.1", "10.0.0.2", 8443
#: The link type of packets without a link layer.
_RAW_IP = 101
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_TCP, _SYN = 6, 2
#: Seconds without a packet after which all is said.
_QUIET = 0.5

#: Takes the side that sent a packet, and its number; returns after how many seconds it arrives. No number means that it
#: is lost, two that it is duplicated. Packets with data count from 1, which is the SYN; the others have the number 0.
Fate = Callable[[str, int], list[float]]


class Network:
    """``name``: of the two files, ``NAME-client.pcap`` and ``NAME-server.pcap``. ``rtt``: seconds.

    Shorter round trips than the default would let TCP send again what a busy machine only delays.
    """

    def __init__(self, name: str, rtt: float = 0.1) -> None:
        self.fate: Fate = lambda side, number: [rtt / 2]
        self._files = {side: Path(f"{name}-{side}.pcap").open("wb") for side in ("client", "server")}  # noqa: SIM115
        self._captures = {side: PcapWriter(file, _RAW_IP) for side, file in self._files.items()}
        self._sent: Counter[tuple[str, int]] = Counter()
        self._on_their_way: list[tuple[float, int, str, bytes]] = []
        self._order, self._last, self._stopped = itertools.count(), time.monotonic(), False
        self._interface = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self._interface, _TUNSETIFF, struct.pack("16sH", b"net0", _TUN_WITHOUT_HEADER))
        for command in (f"addr add {HERE}/24 dev net0", "link set net0 up"):
            subprocess.run(["ip", *command.split()], check=True)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        while time.monotonic() < self._last + _QUIET:
            time.sleep(_QUIET / 10)
        self._stopped = True
        self._thread.join()
        os.close(self._interface)
        for file in self._files.values():
            file.close()
        connections = len({ports for _, ports in self._sent})
        print(f"{connections} connections, captured in {' and '.join(file.name for file in self._files.values())}")

    def _run(self) -> None:
        while not self._stopped:
            wait = self._on_their_way[0][0] - time.monotonic() if self._on_their_way else _QUIET / 10
            if select.select([self._interface], [], [], max(wait, 0))[0]:
                self._send(os.read(self._interface, 1 << 16))
            while self._on_their_way and self._on_their_way[0][0] <= time.monotonic():
                _, _, to, packet = heapq.heappop(self._on_their_way)
                self._capture(to, packet)
                os.write(self._interface, packet)

    def _send(self, packet: bytes) -> None:
        if packet[0] >> 4 != 4 or packet[9] != _TCP:
            return  # the kernel also looks for neighbours
        at = (packet[0] & 15) * 4
        ports = struct.unpack_from("!HH", packet, at)
        side, to = ("server", "client") if ports[0] == PORT else ("client", "server")
        self._capture(side, packet)
        number = 0
        if at + (packet[at + 12] >> 4) * 4 < len(packet) or packet[at + 13] & _SYN:
            self._sent[side, sum(ports)] += 1
            number = self._sent[side, sum(ports)]
        swapped = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
        for seconds in self.fate(side, number):
            heapq.heappush(self._on_their_way, (time.monotonic() + seconds, next(self._order), to, swapped))

    def _capture(self, side: str, packet: bytes) -> None:
        self._captures[side].packet(time.time_ns(), packet)
        self._last = time.monotonic()
