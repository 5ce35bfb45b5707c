"""Sockets and files: there, of the right kind, and open to whom they should be."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from meshtls.address import Address
from meshtls.cli.check.finding import Claim, Finding, failed, passed
from meshtls.port_holder import bind_reason

__all__ = [
    "NOT_THERE",
    "SocketProblem",
    "is_free",
    "private_finding",
    "room_finding",
    "socket_claim",
    "socket_finding",
    "socket_problem",
]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SECONDS = 3.0
NOT_THERE = f"cannot connect ({os.strerror(errno.ENOENT)})"
#: Bytes that a transaction of a data store, or the files of an SVID, may need on a disk.
_TRANSACTION = 1 << 16


class SocketProblem(NamedTuple):
    """Why this process can't connect to a Unix socket. ``denied``: the operating system does not let this user."""

    reason: str
    advice: str
    denied: bool = False


def socket_claim(path: Path) -> Claim:
    return Claim(f"the socket {path} is there and this user may connect to it", f"the socket {path} can't be used")


def socket_finding(named: Path, owner: str) -> Finding:
    """Whether this process can connect to the Unix socket that ``owner`` serves."""
    path = named.absolute()
    claim, problem = socket_claim(path), socket_problem(path, owner)
    return passed(claim) if problem is None else failed(claim, problem.reason, problem.advice)


def socket_problem(path: Path, owner: str) -> SocketProblem | None:
    """Why this process can't connect to the Unix socket that ``owner`` serves at this absolute path; None if it can."""
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return SocketProblem(
            f"cannot connect (Permission denied): uid {os.geteuid()} may not enter a directory of {path}",
            f"give the user execute permission on it, or run as a user that has it: `namei -l {path}` shows where",
            denied=True,
        )
    except OSError as error:
        return SocketProblem(f"cannot connect ({error.strerror})", f"start {owner}, or name the socket that it serves")
    if not stat.S_ISSOCK(mode):
        return SocketProblem("it is no socket", f"name the socket that {owner} serves")
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(_SECONDS)
        try:
            sock.connect(str(path))
        except PermissionError:
            return SocketProblem(
                f"cannot connect (Permission denied): uid {os.geteuid()} may not write to it"
                f" (mode {stat.S_IMODE(mode):04o})",
                "run as the user that owns it, or have its owner permit this one",
                denied=True,
            )
        except ConnectionRefusedError:
            return SocketProblem(
                "cannot connect (Connection refused): nothing listens on it",
                f"start {owner}: the socket is left from one that has ended",
            )
        except OSError as error:
            return SocketProblem(f"cannot connect ({error.strerror or error})", f"see whether {owner} still answers")
    return None


def private_finding(path: Path, what: str) -> Finding | None:
    """Whether other users can access this file or directory; None if it does not exist."""
    claim = Claim(f"{what} {path} is private", f"{what} {path} is open to other users")
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        unseen = claim._replace(broken=f"{what} {path} can't be looked at")
        return failed(unseen, f"{error.strerror}", "run the check as the user that owns it")
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        wanted = "700" if stat.S_ISDIR(status.st_mode) else "600"
        return failed(claim, f"mode {mode:04o} gives other users access", f"chmod {wanted} {path}")
    if status.st_uid != os.geteuid():
        others = claim._replace(broken=f"{what} {path} belongs to another user")
        owner = f"it belongs to uid {status.st_uid}, and this is uid {os.geteuid()}"
        return failed(others, owner, f"run as that user, or chown {os.geteuid()} {path}")
    return passed(claim, f"mode {mode:04o}")


def room_finding(directory: Path) -> Finding | None:
    """Whether the file system of this directory has room for one more transaction; None if it does not exist."""
    claim = Claim(f"the disk of {directory} has room", f"the disk of {directory} is full")
    try:
        system = os.statvfs(directory)
    except OSError:
        return None
    free = system.f_bavail * system.f_frsize
    if free < _TRANSACTION:
        return failed(
            claim, f"database or disk is full: {free} bytes are free", f"make room on the disk: `df {directory}`"
        )
    if system.f_files and not system.f_favail:
        return failed(claim, "no more files can be made: no inode is free", f"delete files: `df -i {directory}`")
    return passed(claim)


def is_free(address: Address) -> str:
    """Why this address can't be listened on; empty if it can."""
    try:
        [(family, kind, protocol, _, where), *_] = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with closing(socket.socket(family, kind, protocol)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
            sock.listen(1)
    except OSError as error:
        return bind_reason(error, address.host, address.port)
    except UnicodeError as error:  # a name that no resolver takes
        return str(error)
    return ""
