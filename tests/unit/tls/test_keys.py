"""The key's way to OpenSSL leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import ssl
import stat
import tempfile
from pathlib import Path

import pytest

from meshtls.errors import LocalIdentityError
from meshtls.svid.x509 import X509Svid
from meshtls.tls import keys
from tests.support.authority import make_authority, svid_for

AUTHORITY = make_authority()
SVID = svid_for(AUTHORITY, "/web")


class Watching(ssl.SSLContext):
    """Notes the file that it is given, as it is at that moment, and takes it."""

    path: str
    mode: int
    directory: list[str]

    def load_cert_chain(self, certfile: str, *rest: object) -> None:  # type: ignore[override]  # all that keys.py uses
        self.path = certfile
        self.mode = stat.S_IMODE(os.stat(certfile).st_mode)
        super().load_cert_chain(certfile)


def loaded(svid: X509Svid = SVID) -> Watching:
    context = Watching(ssl.PROTOCOL_TLS_SERVER)
    keys.load_svid(context, svid)
    return context


def memory_files() -> list[str]:
    """Those that this process has open; its other descriptors may be closed by the garbage collector at any time."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(name for name in names if name.startswith("/memfd:"))


def test_the_key_goes_by_a_memory_file_that_is_gone_afterwards() -> None:
    open_before = memory_files()
    assert loaded().path.startswith("/proc/self/fd/")
    assert memory_files() == open_before


def test_without_memory_files_a_private_temporary_file_is_used_and_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    context = loaded()
    assert Path(context.path).parent == tmp_path
    assert context.mode == 0o600
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_removed_also_where_openssl_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mismatched = X509Svid(SVID.spiffe_id, SVID.chain, svid_for(AUTHORITY, "/other").private_key)
    with pytest.raises(LocalIdentityError, match=r"OpenSSL does not take the SVID of spiffe://example.org/web"):
        loaded(mismatched)
    assert list(tmp_path.iterdir()) == []
