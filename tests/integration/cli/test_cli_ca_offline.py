"""``meshtls ca sign``: an error names the file that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.cli.identity_site import Told, tell


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present directory, with a root, its key, and a request."""
    monkeypatch.chdir(tmp_path)
    assert tell("ca", "root", "--key", "root.key", "--out", "root.pem").code == 0
    assert tell("ca", "csr", "--trust-domain", "a.test", "--key", "ca.key", "--out", "ca.csr").code == 0
    return tmp_path


def sign(**changed: str) -> Told:
    values = {"issuer": "root.pem", "key": "root.key", "trust_domain": "a.test", "request": "ca.csr"} | changed
    options = ("--issuer", values["issuer"], "--key", values["key"], "--trust-domain", values["trust_domain"])
    return tell("ca", "sign", values["request"], *options, "--ttl", "1h", "--out", "ca.pem")


def test_a_request_is_signed(here: Path) -> None:
    assert sign().code == 0
    assert (here / "ca.pem").read_bytes().endswith((here / "root.pem").read_bytes())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"issuer": "no.pem"}, "no.pem: can't be read: No such file or directory"),
        ({"request": "no.csr"}, "no.csr: can't be read: No such file or directory"),
        ({"key": "no.key"}, "no.key: wanted a key file to read: No such file or directory"),
        (
            {"key": "open.key"},
            "open.key: mode 0644 gives other users access to a CA key; run chmod 600 open.key",
        ),
        ({"trust_domain": "b.test"}, "ca.csr: CSR: wanted one for spiffe://b.test, got one for spiffe://a.test"),
    ],
)
def test_an_error_names_the_file_that_is_wrong(here: Path, changed: dict[str, str], message: str) -> None:
    (here / "open.key").write_bytes((here / "root.key").read_bytes())
    (here / "open.key").chmod(0o644)
    assert sign(**changed).err == f"meshtls: {message}\n"
    assert not (here / "ca.pem").exists()
