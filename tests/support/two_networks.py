"""Two network namespaces with a link between them, and tcpdump at both of its ends.

The calling process has to be in a network namespace of its own (``IN_NAMESPACES``), which becomes the server's; the
client's is that of a process that only sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import socket
import threading
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from meshtls.wire.side import Side
from tests.support.lossy_link import Faults, LossyLink, opened_tun
from tests.support.waiting import SECONDS

__all__ = ["ADDRESSES", "ADDRESSES_6", "IN_NAMESPACES", "MARK_PORT", "TwoNetworks", "two_networks"]

T = TypeVar("T")
#: As ``in_own_network``'s, but as another user than root: as root tcpdump wants to become one that is not there.
IN_NAMESPACES = (
    *("unshare", "-U", "--map-user=1000", "--map-group=1000", "--keep-caps", "-n"),
    *("sh", "-c", 'ip link set lo up && exec "$@"', "sh"),
)
ADDRESSES = {Side.CLIENT: "10.9.0.1", Side.SERVER: "10.9.0.2"}
ADDRESSES_6 = {Side.CLIENT: "fd09::1", Side.SERVER: "fd09::2"}
#: Of UDP. What comes to this port ends a capture.
MARK_PORT = 9
_CLONE_NEWNET = 0x40000000
_DEVICE = "link0"


class TwoNetworks(NamedTuple):
    """The two of them. ``link``: what carries packets, or None for a pair of veth devices."""

    holder: int
    link: LossyLink | None
    mark: bytes

    def command(self, side: Side, *arguments: str) -> tuple[str, ...]:
        """The command that runs this one in the network of ``side``."""
        if side is Side.SERVER:
            return arguments
        return ("nsenter", f"--net=/proc/{self.holder}/ns/net", *arguments)

    def socket(self, side: Side, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
        """A new one for IPv4 in the network of ``side``, usable from everywhere."""
        made = self._within(side, lambda: socket.socket(socket.AF_INET, kind))
        made.setblocking(False)
        return made

    def _within(self, side: Side, make: Callable[[], T]) -> T:
        return within(self.holder, make) if side is Side.CLIENT else make()

    @contextlib.asynccontextmanager
    async def captured(self, files: dict[Side, Path]) -> AsyncIterator[None]:
        """tcpdump writes these files at the ends of the link, while the body runs. The last packet of each is a mark.

        The link is cut at the end: all that it carried is in the files, and nothing after it.
        """
        async with contextlib.AsyncExitStack() as stack:
            for side, file in files.items():
                await stack.enter_async_context(self._tcpdump(side, file))
            yield
            if self.link is not None:
                self.link.cut()
            for side, file in files.items():
                with self.socket(side, socket.SOCK_DGRAM) as sock:
                    sock.sendto(self.mark, (ADDRESSES[side.other], MARK_PORT))
                await _until(lambda file=file: self.mark in file.read_bytes())  # type: ignore[misc]

    @contextlib.asynccontextmanager
    async def _tcpdump(self, side: Side, file: Path) -> AsyncIterator[None]:
        command = self.command(side, "tcpdump", "-i", _DEVICE, "-B", "65536", "-U", "-w", str(file), "tcp or udp")
        process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=PIPE)
        assert process.stderr is not None
        try:
            async with asyncio.timeout(SECONDS):
                while b"listening on" not in (line := await process.stderr.readline()):
                    assert line, "tcpdump has ended"
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            _, told = await process.communicate()
        assert b"\n0 packets dropped by kernel" in told, told


@contextlib.asynccontextmanager
async def two_networks(faults: Faults | None, seed: int = 0) -> AsyncIterator[TwoNetworks]:
    """A veth pair joins them, whose segments are as large as the kernel makes them; or, with faults, a lossy link."""
    holder = await asyncio.create_subprocess_exec(
        *("unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"), stdout=PIPE
    )
    mark = secrets.token_bytes(16)
    try:
        assert holder.stdout is not None
        assert await asyncio.wait_for(holder.stdout.readline(), SECONDS) == b"ready\n"
        if faults is None:
            networks = TwoNetworks(holder.pid, None, mark)
            await _ran("ip", "link", "add", "name", _DEVICE, "type", "veth", "peer", "name", "other0")
            await _ran("ip", "link", "set", "other0", "netns", str(holder.pid))
            await _ran(*networks.command(Side.CLIENT, "ip", "link", "set", "other0", "name", _DEVICE))
            await _configure(networks)
            yield networks
        else:
            ends = {
                Side.CLIENT: within(holder.pid, lambda: opened_tun(_DEVICE)),
                Side.SERVER: opened_tun(_DEVICE),
            }
            link = LossyLink(ends, faults, seed, mark)
            networks = TwoNetworks(holder.pid, link, mark)
            try:
                await _configure(networks)
                with link.running():
                    yield networks
            finally:
                for end in ends.values():
                    os.close(end)
    finally:
        holder.kill()
        await holder.wait()


async def _configure(networks: TwoNetworks) -> None:
    for side in Side:
        ip = networks.command(side, "ip")
        await _ran(*ip, "address", "add", f"{ADDRESSES[side]}/24", "dev", _DEVICE)
        await _ran(*ip, "address", "add", f"{ADDRESSES_6[side]}/64", "dev", _DEVICE, "nodad")
        # A queue that overflows would lose what tcpdump has seen and the link has not.
        await _ran(*ip, "link", "set", _DEVICE, "txqueuelen", "10000", "up")


async def _ran(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, (command, out, err)


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not await asyncio.to_thread(true):  # noqa: ASYNC110  # there is no event
            await asyncio.sleep(0.05)


def within(holder: int, make: Callable[[], T]) -> T:
    """What ``make`` returns in the network namespace of this process: a socket or a device stays there."""
    made: list[T] = []

    def enter() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        namespace = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if libc.setns(namespace, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        finally:
            os.close(namespace)
        made.append(make())

    # A thread of its own, since its other sockets would be there, too.
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert made, f"the network namespace of {holder} could not be entered"
    return made[0]
