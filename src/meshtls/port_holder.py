"""Why an address can't be listened on: the kernel's reason, and the process that has the port, where /proc tells it.

/proc shows the descriptors of a process to its own user and to root only, so the process is often unknown. Of its
command line only the program and a verb of ours are told: arguments may be secret. All that is read there is bytes.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from meshtls.address import os_reason
from meshtls.printable import printable

__all__ = ["bind_reason"]

_PROC = Path("/proc")
#: The state TCP_LISTEN of /proc/net/tcp, which lists listening sockets before all others.
_LISTEN = b"0A"
#: Bounds of a look, which a serving process takes: sockets of the machine, descriptors of all processes, bytes.
_MOST_SOCKETS, _MOST_DESCRIPTORS, _MOST_COMMAND = 10_000, 50_000, 4096
_OURS = "meshtls"
_VERB = re.compile(rb"[a-z][a-z0-9-]{0,15}")


def bind_reason(error: OSError, host: str, port: int) -> str:
    """Why ``bind`` or ``listen`` failed: ``Address already in use, by process 1234 (meshtls sidecar)``.

    The process is left out where it is not known.
    """
    why = os_reason(error)
    return why + _holder(host, port) if error.errno == errno.EADDRINUSE else why


def _holder(host: str, port: int) -> str:
    """The end of a message: ``, by process 1234 (meshtls sidecar)``, or nothing where no holder is found."""
    try:
        inodes = {b"socket:[%s]" % one for one in _listening(host, port)}
        pid = _process_with(inodes) if inodes else None
        if pid is None:
            return ""
        return ", by this process" if pid == os.getpid() else f", by process {pid} ({_program(pid)})"
    except (OSError, ValueError, IndexError, struct.error):
        return ""


def _listening(host: str, port: int) -> list[bytes]:
    """The inodes of the sockets that listen on this address, or on one that includes it.

    Those of the other IP version only if there is no other: a socket for IPv6 may take IPv4 as well, which /proc does
    not tell.
    """
    try:
        wanted = ip_address(host.partition("%")[0])
    except ValueError:  # a name, of any address
        wanted = IPv4Address(0)
    found: dict[bool, list[bytes]] = {True: [], False: []}
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), (_PROC / "net" / name).open("rb") as lines:  # without IPv6
            sockets = (line.split() for line in itertools.islice(lines, 1, _MOST_SOCKETS))
            for _, local, _, _, _, _, _, _, _, inode, *_ in itertools.takewhile(lambda one: one[3] == _LISTEN, sockets):
                address, _, hexadecimal = local.partition(b":")
                listening = _read_address(address)
                includes = wanted == listening or wanted.is_unspecified or listening.is_unspecified
                if int(hexadecimal, 16) == port and includes:
                    found[listening.version == wanted.version].append(inode)
    return found[True] or found[False]


def _read_address(text: bytes) -> IPv4Address | IPv6Address:
    """An address as /proc has it: 32-bit words in the byte order of the machine."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    found = ip_address(struct.pack(f"={len(words)}I", *words))
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _process_with(descriptors: set[bytes]) -> int | None:
    """The process that has one of these open, of those whose descriptors this user may see."""
    left = _MOST_DESCRIPTORS
    for pid in sorted(int(name) for name in os.listdir(_PROC) if name.isdecimal()):
        directory = os.fsencode(_PROC / str(pid) / "fd")
        with contextlib.suppress(OSError):  # another user's, or it has ended
            for name in os.listdir(directory):
                left -= 1
                if left < 0:
                    return None
                with contextlib.suppress(OSError):  # closed meanwhile
                    if os.readlink(directory + b"/" + name) in descriptors:
                        return pid
    return None


def _program(pid: int) -> str:
    """The name of a program: ``meshtls up``, or the name of another program."""
    with (_PROC / str(pid) / "cmdline").open("rb") as file:
        command = file.read(_MOST_COMMAND).split(b"\0")
    for word, following in itertools.pairwise(command[:5]):  # after Python, and its option -m
        if word.rpartition(b"/")[2] == _OURS.encode():
            return f"{_OURS} {following.decode()}" if _VERB.fullmatch(following) else _OURS
    return printable((_PROC / str(pid) / "comm").read_bytes().decode("utf-8", "replace").rstrip("\n"))
