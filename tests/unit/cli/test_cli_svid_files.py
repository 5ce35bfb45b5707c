"""SVIDs as files: which, with which content, mode and order, and what is left after a failure."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.bundle import BundleSet
from meshtls.ca.authority import Authority
from meshtls.cli.svid_files import Choice, contents, is_permanent, pinned, write_files
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid
from tests.support.authority import make_authority


@pytest.fixture
def authority() -> Authority:
    return make_authority("example.org")


def svid(authority: Authority, path: str) -> X509Svid:
    key = ec.generate_private_key(ec.SECP256R1())
    return X509Svid.from_chain(authority.issue(SpiffeId(authority.trust_domain, path), key.public_key()), key)


def context(authority: Authority, *paths: str, partner: Authority | None = None) -> X509Context:
    bundles = [authority.bundle, *([partner.bundle] if partner else [])]
    return X509Context(1, tuple(svid(authority, path) for path in paths), BundleSet(bundles))


def test_an_identity_is_three_files_with_the_certificates_written_last(authority: Authority) -> None:
    one = context(authority, "/web")

    files = contents(one)

    assert list(files) == ["bundle.pem", "key.pem", "svid.pem"]
    assert files["svid.pem"] == one.svid.chain_pem()
    assert files["key.pem"] == one.svid.key_pem()
    assert files["bundle.pem"] == authority.bundle.to_pem()


def test_the_first_of_several_identities_is_written_and_the_others_on_request(authority: Authority) -> None:
    two = context(authority, "/ns/a/web", "/api")

    assert list(contents(two)) == ["bundle.pem", "key.pem", "svid.pem"]
    files = contents(two, every=True)

    web, api = "example.org~ns~a~web", "example.org~api"
    assert list(files) == [
        *(
            "bundle.pem",
            f"key.{web}.pem",
            f"key.{api}.pem",
            f"svid.{web}.pem",
            f"svid.{api}.pem",
            "key.pem",
            "svid.pem",
        ),
    ]
    assert files["svid.pem"] == files[f"svid.{web}.pem"] == two.svids[0].chain_pem()
    assert files[f"key.{api}.pem"] == two.svids[1].key_pem()


def test_names_of_identities_are_different_and_do_not_depend_on_the_order(authority: Authority) -> None:
    long = "/x" * 120
    paths = ("/a/b", "/a-b", "/a.b", "/web", "/web", "/web/2", long + "/a", long + "/b")
    names = [name for name in contents(context(authority, *paths), every=True) if name.startswith("svid.example")]
    turned = [
        name for name in contents(context(authority, *paths[::-1]), every=True) if name.startswith("svid.example")
    ]

    assert len(set(names)) == len(paths)
    assert set(names) == set(turned)
    assert max(map(len, names)) <= 255


class TestChoice:
    def test_the_chosen_svid_comes_first(self, authority: Authority) -> None:
        two = context(authority, "/web", "/api")
        hinted = replace(two, svids=(two.svids[0], replace(two.svids[1], hint="internal")))

        assert Choice().of(two) == two
        assert Choice(SpiffeId(authority.trust_domain, "/api")).of(two).svids == two.svids[::-1]
        assert Choice(hint="internal").of(hinted).svids == hinted.svids[::-1]

    @pytest.mark.parametrize(
        ("choice", "wanted"),
        [
            (Choice(SpiffeId.parse("spiffe://example.org/db")), "an SVID of spiffe://example.org/db"),
            (Choice(hint="internal"), "an SVID with the hint 'internal'"),
            (
                Choice(SpiffeId.parse("spiffe://example.org/web"), "internal"),
                "an SVID of spiffe://example.org/web with the hint 'internal'",
            ),
        ],
    )
    def test_an_unknown_choice_lists_the_known_ones(self, authority: Authority, choice: Choice, wanted: str) -> None:
        with pytest.raises(LocalIdentityError) as refused:
            choice.of(context(authority, "/web", "/api"))

        assert str(refused.value) == (
            f"wanted {wanted}, the Workload API gives this process spiffe://example.org/web, spiffe://example.org/api"
        )

    def test_files_of_an_identity_are_kept_for_it_unless_another_is_asked_for(
        self, authority: Authority, tmp_path: Path
    ) -> None:
        web, api = (SpiffeId(authority.trust_domain, path) for path in ("/web", "/api"))
        assert pinned(tmp_path, Choice()) == Choice()

        write_files(tmp_path, contents(context(authority, "/web")))

        assert pinned(tmp_path, Choice()) == Choice(web)
        assert pinned(tmp_path, Choice(api)) == Choice(api)
        assert pinned(tmp_path, Choice(hint="x")) == Choice(hint="x")

    @pytest.mark.parametrize("content", [b"", b"no certificate"])
    def test_a_file_that_is_no_svid_is_not_replaced(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "svid.pem").write_bytes(content)

        with pytest.raises(ConfigError) as refused:
            pinned(tmp_path, Choice())

        assert str(refused.value) == (
            f"{tmp_path}/svid.pem: wanted an SVID or no file, got something else; move it away, or select an SVID"
            " with --spiffe-id"
        )


def test_a_partners_authorities_are_never_beside_our_own(authority: Authority) -> None:
    partner = make_authority("partner.test")

    files = contents(context(authority, "/web", partner=partner))

    assert files["bundle.pem"] == authority.bundle.to_pem()
    assert files["bundle.partner.test.pem"] == partner.bundle.to_pem()


def test_keys_are_private_and_the_rest_can_be_read_by_all(authority: Authority, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        paths = write_files(tmp_path / "deep" / "svid", contents(context(authority, "/web", "/api")))
    finally:
        os.umask(before)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {mode for name, mode in modes.items() if name.startswith("key")} == {0o600}
    assert {mode for name, mode in modes.items() if not name.startswith("key")} == {0o644}
    assert stat.S_IMODE((tmp_path / "deep" / "svid").stat().st_mode) == 0o700


def test_an_open_old_file_keeps_its_content_and_no_temporary_file_is_left(authority: Authority, tmp_path: Path) -> None:
    old, new = (contents(context(authority, "/web")) for _ in range(2))
    write_files(tmp_path, old)
    with (tmp_path / "key.pem").open("rb") as reader:
        write_files(tmp_path, new)
        assert reader.read() == old["key.pem"]

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == new


def test_a_symbolic_link_in_place_of_a_file_is_replaced_and_not_followed(authority: Authority, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    directory = tmp_path / "svid"
    directory.mkdir()
    (directory / "key.pem").symlink_to(elsewhere)

    write_files(directory, contents(context(authority, "/web")))

    assert elsewhere.read_text() == "untouched"
    assert not (directory / "key.pem").is_symlink()


def test_the_files_of_a_withdrawn_identity_are_removed_and_no_others(authority: Authority, tmp_path: Path) -> None:
    others = ("mine.pem", "svid.old.pem", "key.1.pem.bak", "bundle.txt", "bundle.corp.pem", "svid.2.pem", "key.7.pem")
    for name in others:
        (tmp_path / name).touch()
    write_files(tmp_path, contents(context(authority, "/web", "/api", partner=make_authority("partner.test"))))

    write_files(tmp_path, contents(context(authority, "/web")))

    assert {path.name for path in tmp_path.iterdir()} == {"bundle.pem", "key.pem", "svid.pem", *others}


def test_files_written_before_a_failed_set_are_still_removed_later(authority: Authority, tmp_path: Path) -> None:
    several, one = contents(context(authority, "/web", "/api"), every=True), contents(context(authority, "/web"))
    write_files(tmp_path, several)
    (tmp_path / "svid.example.org~api.pem").unlink()
    (tmp_path / "svid.example.org~api.pem").mkdir()  # can't be removed as a file
    with pytest.raises(ConfigError):
        write_files(tmp_path, one)
    (tmp_path / "svid.example.org~api.pem").rmdir()

    write_files(tmp_path, one)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == one


def test_a_tampered_file_list_removes_only_files_that_we_could_have_written(
    authority: Authority, tmp_path: Path
) -> None:
    directory = tmp_path / "svid"
    directory.mkdir()
    spared = [tmp_path / "bundle.x.pem", directory / "mine.pem", directory / "key.pem.1"]
    for path in spared:
        path.touch()
    (directory / "bundle.x.pem").touch()
    (directory / ".meshtls-files").write_bytes(
        b"../bundle.x.pem\nbundle./../../bundle.x.pem\nmine.pem\n\xff\nbundle.x.pem\n"
    )

    write_files(directory, contents(context(authority, "/web")))

    assert all(path.exists() for path in spared)
    assert not (directory / "bundle.x.pem").exists()


@pytest.mark.parametrize(
    ("code", "by_hand"),
    [("EACCES", True), ("ENOTDIR", True), ("EROFS", True), ("ENOSPC", False), ("EIO", False), ("ENOENT", False)],
)
def test_temporary_failures_are_distinguished_from_permanent_ones(code: str, by_hand: bool) -> None:
    error = ConfigError("failed")
    error.__cause__ = OSError(getattr(errno, code), "failed")

    assert is_permanent(error) is by_hand


def test_the_old_set_stays_whole_when_one_file_cannot_be_written(authority: Authority, tmp_path: Path) -> None:
    old = contents(context(authority, "/web"))
    write_files(tmp_path, old)
    # The second name is too long for a file: the first has been written by then.
    new = {"bundle.pem": b"new", f"bundle.{'x' * 250}.pem": b"new"}

    with pytest.raises(ConfigError) as raised:
        write_files(tmp_path, new)

    assert str(raised.value) == f"{tmp_path}: wanted to write SVIDs there: File name too long"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == old
