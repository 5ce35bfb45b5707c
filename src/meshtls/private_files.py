"""Atomic replacement of files on a POSIX file system.

Secret files are private before their first byte is written, and are refused if other users can access them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from meshtls.errors import ConfigError

__all__ = [
    "SECRET",
    "lock_directory",
    "opened_to_append",
    "private_directory",
    "read_secret",
    "replace_secrets",
    "sync_directory",
    "written",
]

#: The mode of a file that only its owner can read.
SECRET = 0o600

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def lock_directory(directory: Path, what: str = "a CA key") -> int:
    """Create the directory (0700) if needed, check that it is private, and lock it against other processes.

    ``what`` is in the directory, for the error.

    The lock lasts until the returned descriptor is closed. It is on the directory itself, so that nothing is written to
    a directory that is refused. Raises ConfigError.
    """
    descriptor = _opened_private(directory, what)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigError(
            f"data directory {directory}: another process uses it; stop that process or use another directory"
        ) from error
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def private_directory(directory: Path) -> None:
    """Create the directory (0700) if needed, and check that it is private. Raises ConfigError."""
    os.close(_opened_private(directory, "a CA key"))


def _opened_private(directory: Path, what: str) -> int:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"data directory {directory}: wanted a directory to use: {error.strerror}") from error
    try:
        _check_private(directory, os.fstat(descriptor), "700", what)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_secret(path: Path, what: str = "a CA key") -> bytes:
    """The content of a regular file that this user owns and no other can access. Raises ConfigError.

    ``what`` is in the file, for the error.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"{path}: wanted a file with {what} to read: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        _check_private(path, os.fstat(descriptor), "600", what)
        return file.read()


def opened_to_append(path: Path) -> int:
    """A descriptor of a secret file for appending, created (0600) if it is missing; close it after use.

    Raises ConfigError, also if another user can access the file.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, SECRET)
    except OSError as error:
        raise ConfigError(f"{path}: wanted a file to write secrets to: {error.strerror}") from error
    try:
        _check_private(path, os.fstat(descriptor), "600", "secrets")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def replace_secrets(contents: dict[Path, bytes]) -> None:
    """Write all files (0600), then rename them into place: old content is replaced only when all new is on disk.

    All paths must be in one directory. Raises ConfigError, and leaves no partial file.
    """
    try:
        with written(contents, lambda _path: SECRET) as temporary:
            for path, whole in temporary.items():
                whole.replace(path)
        sync_directory(next(iter(contents)).parent)
    except OSError as error:
        raise ConfigError(
            f"{', '.join(map(str, contents))}: could not be written: {error.strerror};"
            " the directory has to be writable and its disk to have room"
        ) from error


@contextlib.contextmanager
def written(contents: Mapping[Path, bytes], mode_of: Callable[[Path], int]) -> Iterator[dict[Path, Path]]:
    """Write each file under a temporary name in its directory. Gives the temporary path of each path.

    The body renames the files; those that it leaves are deleted. Raises OSError.
    """
    temporary = {path: path.with_name(f".{path.name}.{secrets.token_hex(8)}") for path in contents}
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        for path, content in contents.items():
            descriptor = os.open(temporary[path], flags, SECRET)
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, mode_of(path))
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        yield temporary
    finally:
        for one in temporary.values():
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Flush the directory to disk, so that renames into it survive a power cut. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_private(path: Path, status: os.stat_result, wanted: str, what: str) -> None:
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ConfigError(f"{path}: wanted a regular file, got something else; move it away")
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"{path}: wanted owner uid {os.geteuid()}, the user of this process, got uid {status.st_uid};"
            f" run as that user or chown {os.geteuid()} {path}"
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        raise ConfigError(f"{path}: mode {mode:04o} gives other users access to {what}; run chmod {wanted} {path}")
