"""``meshtls ca sign``: an error names the file that is wrong, and no file is replaced unasked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.cli.identity_site import Told, tell

CSR = ("ca", "csr", "--trust-domain", "a.test", "--key", "ca.key", "--out", "ca.csr")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present directory, with a root, its key, and a request."""
    monkeypatch.chdir(tmp_path)
    assert tell("ca", "root", "--key", "root.key", "--out", "root.pem").code == 0
    assert tell(*CSR).code == 0
    return tmp_path


def sign(*more: str, **changed: str) -> Told:
    values = {"issuer": "root.pem", "key": "root.key", "trust_domain": "a.test", "request": "ca.csr", "ttl": "1h"}
    values |= {"out": "ca.pem"} | changed
    request = values.pop("request")
    options = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", value)]
    return tell("ca", "sign", request, *options, *more)


def test_a_request_is_signed(here: Path) -> None:
    assert sign().code == 0
    assert (here / "ca.pem").read_bytes().endswith((here / "root.pem").read_bytes())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"issuer": "no.pem"}, "no.pem: can't be read: No such file or directory"),
        ({"request": "no.csr"}, "no.csr: can't be read: No such file or directory"),
        ({"key": "no.key"}, "no.key: wanted a file with a CA key to read: No such file or directory"),
        (
            {"key": "open.key"},
            "open.key: mode 0644 gives other users access to a CA key; run chmod 600 open.key",
        ),
        ({"key": "ca.key"}, "ca.key: wanted the private key of the issuer's certificate, got another key"),
        ({"issuer": "env.pem", "key": "ca.key", "ttl": "1m"},
         "env.pem: the issuer allows 0 CAs in a path below it, and this one needs 1: give a smaller --path-length, or"
         " another issuer"),
        ({"trust_domain": "b.test"}, "ca.csr: CSR: wanted one for spiffe://b.test, got one for spiffe://a.test"),
    ],
)  # fmt: skip
def test_an_error_names_the_file_that_is_wrong(here: Path, changed: dict[str, str], message: str) -> None:
    assert sign(out="env.pem").code == 0
    (here / "open.key").write_bytes((here / "root.key").read_bytes())
    (here / "open.key").chmod(0o644)
    assert sign(**changed).err == f"meshtls: {message}\n"
    assert not (here / "ca.pem").exists()


def test_a_key_file_without_a_private_key_is_named_and_no_backup_is_advised(here: Path) -> None:
    (here / "root.pem").chmod(0o600)
    assert re.fullmatch(
        r"meshtls: root\.pem: wanted a private key in PEM, without a password: .*; give the issuer's private key\n",
        sign(key="root.pem").err,
    )
    assert sign().code == 0


def test_a_ca_that_would_outlive_its_issuer_is_the_issuers_fault(here: Path) -> None:
    refused = sign(ttl="87601h").err
    assert re.fullmatch(
        r"meshtls: root\.pem: wanted a CA until \S+, but its issuer ends at \S+; give a shorter --ttl\n", refused
    )
    assert sign(ttl="87599h").code == 0


@pytest.mark.parametrize("verb", ["csr", "sign"])
def test_a_file_is_replaced_with_force_only(here: Path, verb: str) -> None:
    assert sign().code == 0
    file, what = {"csr": ("ca.csr", "the request"), "sign": ("ca.pem", "the chain")}[verb]
    before = (here / file).read_bytes()

    def again(*more: str) -> Told:
        return sign(*more) if verb == "sign" else tell(*CSR[:5], "new.key", *CSR[6:], *more)

    refused = again()
    assert (refused.code, refused.err) == (
        2,
        f"meshtls: {file}: wanted a new file for {what}, got one that is there; name another one, or give --force\n",
    )
    assert (here / file).read_bytes() == before
    assert not (here / "new.key").exists()
    assert again("--force").code == 0
    assert (here / file).read_bytes() != before
