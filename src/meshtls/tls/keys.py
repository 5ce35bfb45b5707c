"""Loads a certificate chain and its key into OpenSSL without leaving the key on a disk.

``SSLContext.load_cert_chain`` takes nothing but paths. An anonymous memory file has one, under /proc, and is gone when
closed; where there is none (no Linux, or /proc not mounted) a temporary file stands in, 0600 from its creation.

The one way in which secrets do get to a disk is ``insecure_keylog``, which nothing does unless it is asked to.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.private_files import opened_to_append
from meshtls.svid.x509 import X509Svid

__all__ = ["insecure_keylog", "load_svid"]


def load_svid(context: ssl.SSLContext, svid: X509Svid) -> None:
    """Make ``context`` present this SVID. Raises LocalIdentityError where OpenSSL does not take it."""
    with _as_path(svid.chain_pem() + svid.key_pem()) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise LocalIdentityError(f"OpenSSL does not take the SVID of {svid.spiffe_id}: {error}") from error


def insecure_keylog(context: ssl.SSLContext, file: Path | int) -> None:
    """Have OpenSSL append the secrets of each connection of ``context`` to this file, in NSS's format.

    Whoever reads the file can decrypt those connections. It is created with mode 0600. Raises ConfigError for a file
    that another user can access, and for one that can't be written. ``file`` may also be the descriptor of an open one.
    """
    if isinstance(file, int):
        context.keylog_filename = f"/proc/self/fd/{file}"
        return
    descriptor = opened_to_append(file)
    try:
        # OpenSSL opens a path: that of the descriptor leads to the file that was checked, whatever was renamed since.
        checked = f"/proc/self/fd/{descriptor}"
        context.keylog_filename = checked if Path("/proc/self/fd").is_dir() else str(file)
    except OSError as error:
        raise ConfigError(f"{file}: wanted a file to write secrets to: {error.strerror}") from error
    finally:
        os.close(descriptor)


@contextmanager
def _as_path(secret: bytes) -> Iterator[str]:
    if not hasattr(os, "memfd_create") or not Path("/proc/self/fd").is_dir():
        with _temporary_file(secret) as path:
            yield path
        return
    descriptor = os.memfd_create("meshtls-svid", os.MFD_CLOEXEC)
    with open(descriptor, "wb", buffering=0) as memory:
        memory.write(secret)
        yield f"/proc/self/fd/{descriptor}"


@contextmanager
def _temporary_file(secret: bytes) -> Iterator[str]:
    descriptor, path = tempfile.mkstemp(prefix="meshtls-")
    try:
        with open(descriptor, "wb") as file:
            file.write(secret)
        yield path
    finally:
        os.unlink(path)
