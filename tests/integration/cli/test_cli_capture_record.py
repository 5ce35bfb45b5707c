"""``meshtls capture record``: what it refuses before it asks for any right and before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.cli.identity_site import tell

KEYS = "CLIENT_RANDOM " + "ab" * 32 + " " + "cd" * 48 + "\n"


def test_the_key_log_is_not_replaced_by_the_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys").write_text(KEYS)
    os.link("keys", "hard")
    (tmp_path / "soft").symlink_to("keys")
    for written, keylog in (("keys", "keys"), ("hard", "keys"), ("keys", "soft"), ("new", "./new")):
        told = tell("capture", "record", "-i", "lo", "--write", written, "--keylog", keylog)
        assert (told.code, told.out) == (2, "")
        assert told.err == (
            f"meshtls: --write {written}: wanted another file than the key log, got --keylog {Path(keylog)}, which is"
            " the same file: choose another name\n"
        )
    assert (tmp_path / "keys").read_text() == KEYS
    assert not (tmp_path / "new").exists()


def test_standard_output_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = tell("capture", "record", "-i", "lo", "--write", "-")
    assert (told.code, told.out, told.err) == (
        2,
        "",
        "meshtls: --write -: wanted the name of a file, got standard output: record to a file, or print connections"
        " with `meshtls capture live`\n",
    )
    assert not (tmp_path / "-").exists()
