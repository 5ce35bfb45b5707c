"""A packet socket whose packets the kernel writes into memory that we share with it (packet(7), TPACKET_V3).

The filter is attached before the socket is bound, so that it never receives anything else. The ring bounds the memory:
a packet for which it has no room is dropped, and counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import mmap
import os
import select
import socket
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

from meshtls.capture.files.packet import MAX_PACKET
from meshtls.capture.links import ETHERNET
from meshtls.capture.live.blocks import BLOCK_STATUS, Captured, packets_of
from meshtls.capture.live.kernel_filter import LOOPBACK, MOST_PORTS, assembled, tcp_filter
from meshtls.errors import ConfigError, RequestError
from meshtls.printable import printable

__all__ = ["BLOCKS", "BLOCK_BYTES", "Counts", "Ring", "opened_ring"]

#: The size of a block, which a packet has to fit in, and their number.
BLOCK_BYTES, BLOCKS = 1 << 20, 32
#: Milliseconds after which the kernel hands over a block that is not full.
_RETIRE_MS = 20
_FRAME = 2048

_SOL_PACKET = 263
_RX_RING, _STATISTICS, _VERSION = 5, 6, 10
_TPACKET_V3 = 2
_ATTACH_FILTER, _LOCK_FILTER = 26, 44
_ETH_P_ALL = 3
_SIOCGIFHWADDR, _IFREQ, _IFNAMSIZ = 0x8927, 40, 16
#: The hardware types (linux/if_arp.h) whose packets we read: Ethernet, loopback, none; with their link types.
_NO_LINK_LAYER = 0xFFFE
_LINK_TYPES = {1: ETHERNET, LOOPBACK: ETHERNET, _NO_LINK_LAYER: 101}
#: All interfaces together: their packets are taken without their link layers.
_ANY = "any"
_USER, _KERNEL = 1, 0
_STATUS = struct.Struct("=I")
_NO_RIGHT = (
    "wanted the capability CAP_NET_RAW to capture packets, which this process does not have: run it by `setpriv"
    " --ambient-caps +net_raw --inh-caps +net_raw meshtls ...` as root, give a copy of this Python that right by"
    " `setcap cap_net_raw+ep FILE`, or capture within a network namespace of your own (`unshare -Urn`)"
)


class Counts(NamedTuple):
    """Packets that passed the filter since the ring was opened, and those of them that found no room."""

    received: int
    dropped: int


class Ring:
    """Packets of one interface. ``link_type`` says what they begin with."""

    def __init__(self, sock: socket.socket, memory: mmap.mmap, interface: str, link_type: int) -> None:
        self._socket, self._memory = sock, memory
        self._view = memoryview(memory)
        self._at = 0
        self._received = self._dropped = 0
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN | select.POLLERR)
        self.interface, self.link_type = interface, link_type

    def __repr__(self) -> str:
        return f"<Ring {self.interface} [{self._received} received, {self._dropped} dropped]>"

    def packets(self, wait_ms: int) -> list[Captured]:
        """The packets of the next block that is full, or old enough; none where there is none within ``wait_ms``.

        Raises RequestError once the interface is down or gone.
        """
        if not self._is_ours():
            self._poll.poll(wait_ms)
            if not self._is_ours():
                self._check()
                return []
        begin = self._at * BLOCK_BYTES
        with self._view[begin : begin + BLOCK_BYTES] as block:
            found = list(packets_of(block, self.link_type))
            _STATUS.pack_into(block, BLOCK_STATUS, _KERNEL)
        self._at = (self._at + 1) % BLOCKS
        return found

    def counts(self) -> Counts:
        """What the kernel has counted."""
        # Reading them sets them to 0 in the kernel. Its first number includes the second.
        received, dropped, _ = struct.unpack("=III", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        self._received += received
        self._dropped += dropped
        return Counts(self._received, self._dropped)

    def close(self) -> None:
        """Stop capturing."""
        self._view.release()
        self._memory.close()
        self._socket.close()

    def _is_ours(self) -> bool:
        status: int = _STATUS.unpack_from(self._view, self._at * BLOCK_BYTES + BLOCK_STATUS)[0]
        return bool(status & _USER)

    def _check(self) -> None:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            reason = "is down" if code == errno.ENETDOWN else errno.errorcode.get(code, str(code))
            raise RequestError(f"{printable(self.interface)}: the interface {reason}: nothing more is captured")


@contextlib.contextmanager
def opened_ring(interface: str, ports: Collection[int] = ()) -> Iterator[Ring]:
    """Capture the TCP packets from or to ``ports``, or all, that pass this interface, or each one for ``any``.

    Raises ConfigError where this process may not, or the interface can't be captured.
    """
    if len(set(ports)) > MOST_PORTS:
        raise ConfigError(f"wanted at most {MOST_PORTS} ports, got {len(set(ports))}: capture without --port")
    is_any = interface == _ANY
    if not is_any:
        _check_name(interface)
    with contextlib.ExitStack() as stack:
        # Protocol 0: nothing is received before the socket is bound.
        sock = stack.enter_context(_packet_socket(socket.SOCK_DGRAM if is_any else socket.SOCK_RAW))
        hardware = _NO_LINK_LAYER if is_any else _hardware_type(sock, interface)
        if hardware not in _LINK_TYPES:
            raise ConfigError(
                f"{printable(interface)}: wanted an Ethernet, loopback or IP interface, got hardware type {hardware}"
            )
        _attach(sock, assembled(tcp_filter(ports, keep=MAX_PACKET)))
        try:
            sock.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            frames = BLOCK_BYTES // _FRAME * BLOCKS
            request = struct.pack("=IIIIIII", BLOCK_BYTES, BLOCKS, _FRAME, frames, _RETIRE_MS, 0, 0)
            sock.setsockopt(_SOL_PACKET, _RX_RING, request)
            memory = mmap.mmap(sock.fileno(), BLOCK_BYTES * BLOCKS, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            if is_any:
                _bind_to_all(sock)
            else:
                sock.bind((interface, _ETH_P_ALL))
        except OSError as error:
            raise ConfigError(f"{printable(interface)}: wanted to capture its packets: {error.strerror}") from error
        ring = Ring(sock, memory, interface, _LINK_TYPES[hardware])
        stack.callback(ring.close)
        yield ring


def _check_name(interface: str) -> None:
    try:
        socket.if_nametoindex(interface)
    except (OSError, ValueError) as error:
        names = ", ".join(name for _, name in socket.if_nameindex())
        raise ConfigError(f"wanted the name of an interface ({names}) or any, got {printable(interface)}") from error


def _packet_socket(kind: socket.SocketKind) -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, kind, 0)
    except PermissionError as error:
        raise ConfigError(_NO_RIGHT) from error
    except OSError as error:
        raise ConfigError(f"wanted a socket that captures packets: {error.strerror}") from error


def _hardware_type(sock: socket.socket, interface: str) -> int:
    """ARPHRD_ of an interface (netdevice(7))."""
    answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, interface.encode().ljust(_IFREQ, b"\0"))
    return int(struct.unpack_from("=H", answer, _IFNAMSIZ)[0])


def _bind_to_all(sock: socket.socket) -> None:
    """Python's bind wants the name of an interface, which the kernel does not: index 0 is all of them."""
    # struct sockaddr_ll: the family, the protocol in network order, the index, and an address that is not used.
    address = struct.pack("=H", socket.AF_PACKET) + struct.pack("!H", _ETH_P_ALL) + struct.pack("=i12x", 0)
    if ctypes.CDLL(None, use_errno=True).bind(sock.fileno(), address, len(address)):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _attach(sock: socket.socket, program: bytes) -> None:
    code = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the number of instructions, and a pointer to them.
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(code)))
    sock.setsockopt(socket.SOL_SOCKET, _LOCK_FILTER, 1)
