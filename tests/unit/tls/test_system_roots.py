"""The system's CAs are read once, and again when they were replaced."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from meshtls.tls.system_roots import system_client_context


def test_the_context_is_shared_until_the_file_of_cas_or_its_place_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = tmp_path / "roots.pem", tmp_path / "other.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    trustme.CA().cert_pem.write_to_path(file)
    first = system_client_context()
    assert system_client_context() is first
    second = trustme.CA()
    second.cert_pem.write_to_path(other)
    other.rename(file)
    replaced = system_client_context()
    assert replaced is not first
    assert [one["serialNumber"] for one in replaced.get_ca_certs()] != [
        one["serialNumber"] for one in first.get_ca_certs()
    ]
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    assert system_client_context().get_ca_certs() == []
