"""Client contexts that trust the CAs of the system, which are read again only when they have changed.

To read them takes tens of milliseconds, in which the event loop does nothing else.
"""

from __future__ import annotations

import os
import ssl
from functools import lru_cache

__all__ = ["system_client_context"]

#: The files of the CAs, each with what changes when it is replaced; None where there is none.
_State = tuple[tuple[str, tuple[int, int, int, int] | None], ...]


def system_client_context() -> ssl.SSLContext:
    """TLS 1.2 or newer, to a server whose certificate a CA of the system has issued for its host name.

    The CAs are those of OpenSSL's default places, or of SSL_CERT_FILE and SSL_CERT_DIR. The context is shared as long
    as these stay as they are: do not change it.
    """
    return _context(_state())


@lru_cache(maxsize=1)
def _context(state: _State) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _state() -> _State:
    # The paths themselves, and not only those that exist: OpenSSL looks into a directory at each handshake.
    paths = ssl.get_default_verify_paths()
    file = os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile)
    directory = os.environ.get(paths.openssl_capath_env, paths.openssl_capath)
    return tuple((path, _mark(path)) for path in (file, directory))


def _mark(path: str) -> tuple[int, int, int, int] | None:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
