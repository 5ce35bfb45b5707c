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


def test_a_size_that_is_too_small_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for size in ("4095", "1KiB", "0", "-1", "much"):
        told = tell("capture", "record", "-i", "lo", "--write", "a.pcapng", f"--size={size}")
        assert (told.code, told.out) == (2, "")
        wanted = f"'--size': wanted a size from 4KiB to 1024GiB such as 1GiB, got '{size}'"
        assert told.err.splitlines()[-1] == f"Error: Invalid value for {wanted}"
    assert not (tmp_path / "a.pcapng").exists()


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
