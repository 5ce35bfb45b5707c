"""The public bundle on disk."""

from pathlib import Path

import pytest

from meshtls.bundle import TrustBundle
from meshtls.cli.svid_files import publish, publish_bundle
from meshtls.errors import ConfigError
from tests.support.authority import make_authority


def test_the_bundle_is_written_in_both_forms_readable_by_all_and_without_a_key(tmp_path: Path) -> None:
    bundle = make_authority().bundle

    pem, document = publish_bundle(tmp_path / "certs", bundle)

    assert TrustBundle.from_pem(bundle.trust_domain, pem.read_bytes()) == bundle
    assert TrustBundle.from_jwks(bundle.trust_domain, document.read_bytes()) == bundle
    assert b"PRIVATE" not in pem.read_bytes() + document.read_bytes()
    assert {path.name for path in (tmp_path / "certs").iterdir()} == {"example.org.pem", "example.org.jwks.json"}
    assert pem.stat().st_mode & 0o777 == document.stat().st_mode & 0o777 == 0o644


def test_an_unwritable_path_is_named(tmp_path: Path) -> None:
    (tmp_path / "certs").write_text("a file")

    with pytest.raises(ConfigError, match=r"certs/x\.pem: wanted to write the trust bundle there: "):
        publish(tmp_path / "certs" / "x.pem", b"")


def test_a_failed_publication_leaves_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "x.pem").mkdir()

    with pytest.raises(ConfigError) as raised:
        publish(tmp_path / "x.pem", b"content")

    assert str(raised.value) == f"{tmp_path / 'x.pem'}: wanted to write the trust bundle there: Is a directory"
    assert [path.name for path in tmp_path.iterdir()] == ["x.pem"]


def test_publishing_replaces_the_files_and_leaves_no_other(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_bytes(b"old")

    publish(tmp_path / "x.pem", b"new")

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"x.pem": b"new"}
