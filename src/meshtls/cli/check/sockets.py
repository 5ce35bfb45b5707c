"""Sockets and files: there, of the right kind, and open to whom they should be."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from pathlib import Path

from meshtls.address import Address
from meshtls.cli.check.finding import Finding, failed, passed

__all__ = ["is_free", "private_finding", "room_finding", "socket_finding"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_SECONDS = 3.0
#: Bytes that a transaction of a data store may need on its disk.
_TRANSACTION = 1 << 16


def socket_finding(path: Path, owner: str) -> Finding:
    """Whether this process can connect to the Unix socket that ``owner`` serves."""
    check = f"the socket {path} is there and this user may connect to it"
    try:
        mode = path.stat().st_mode
    except PermissionError:
        return failed(
            check,
            f"cannot connect (Permission denied): uid {os.geteuid()} may not enter a directory of {path}",
            f"give the user execute permission on it, or run as a user that has it: `namei -l {path}` shows where",
        )
    except OSError as error:
        return failed(check, f"cannot connect ({error.strerror})", f"start {owner}, or name the socket that it serves")
    if not stat.S_ISSOCK(mode):
        return failed(check, "it is no socket", f"name the socket that {owner} serves")
    with closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.settimeout(_SECONDS)
        try:
            sock.connect(str(path))
        except PermissionError:
            return failed(
                check,
                f"cannot connect (Permission denied): uid {os.geteuid()} may not write to it"
                f" (mode {stat.S_IMODE(mode):04o})",
                "run as the user that owns it, or have its owner permit this one",
            )
        except ConnectionRefusedError:
            return failed(
                check,
                "cannot connect (Connection refused): nothing listens on it",
                f"start {owner}: the socket is left from one that has ended",
            )
        except OSError as error:
            return failed(check, f"cannot connect ({error.strerror or error})", f"see whether {owner} still answers")
    return passed(check)


def private_finding(path: Path, what: str) -> Finding | None:
    """Whether other users can access this file or directory; None if it does not exist."""
    check = f"{what} {path} is private"
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return failed(check, f"{error.strerror}", "run the check as the user that owns it")
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        wanted = "700" if stat.S_ISDIR(status.st_mode) else "600"
        return failed(check, f"mode {mode:04o} gives other users access", f"chmod {wanted} {path}")
    if status.st_uid != os.geteuid():
        owner = f"it belongs to uid {status.st_uid}, and this is uid {os.geteuid()}"
        return failed(check, owner, f"run as that user, or chown {os.geteuid()} {path}")
    return passed(check, f"mode {mode:04o}")


def room_finding(directory: Path) -> Finding | None:
    """Whether the file system of this directory has room for one more transaction; None if it does not exist."""
    check = f"the disk of {directory} has room"
    try:
        system = os.statvfs(directory)
    except OSError:
        return None
    free = system.f_bavail * system.f_frsize
    if free < _TRANSACTION:
        return failed(
            check, f"database or disk is full: {free} bytes are free", f"make room on the disk: `df {directory}`"
        )
    return passed(check)


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
    except (OSError, UnicodeError) as error:  # UnicodeError: a name that no resolver takes
        return getattr(error, "strerror", None) or str(error)
    return ""
