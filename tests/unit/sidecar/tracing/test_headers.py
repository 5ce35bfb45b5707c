"""The file with the collector's headers is private, and no message has a part of a value."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.errors import ConfigError
from meshtls.sidecar.tracing.headers import read_headers

TOKEN = "hunter2"  # noqa: S105  # no password


def written(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / "headers"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_each_line_is_a_header(tmp_path: Path) -> None:
    path = written(tmp_path, b"Authorization: Bearer hunter2\r\n\nx-tenant:a: b \n")
    assert read_headers(path) == (("authorization", "Bearer hunter2"), ("x-tenant", "a: b"))


def test_a_file_that_others_can_read_is_refused_and_one_that_is_private_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, b"authorization: hunter2", 0o640)
    with pytest.raises(ConfigError) as error:
        read_headers(path)
    assert str(error.value) == f"{path}: mode 0640 gives other users access to tokens; run chmod 600 {path}"
    path.chmod(0o600)
    assert read_headers(path) == (("authorization", "hunter2"),)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="headers: wanted a file with tokens to read: No such file or directory"):
        read_headers(tmp_path / "headers")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Bearer hunter2", "wanted a header such as authorization: Bearer TOKEN"),
        (": hunter2", "wanted a header such as authorization: Bearer TOKEN"),
        ("a b: hunter2", "wanted a header such as authorization: Bearer TOKEN"),
        ("a: hunter2\x00", "wanted a header such as authorization: Bearer TOKEN"),
        ("Host: hunter2", "wanted another header than host, which the sidecar writes itself"),
        ("content-length: hunter2", "wanted another header than content-length, which the sidecar writes itself"),
    ],
)
def test_a_line_that_is_no_header_is_named_by_its_number_alone(tmp_path: Path, line: str, message: str) -> None:
    path = written(tmp_path, f"a: b\n{line}\n".encode())
    with pytest.raises(ConfigError) as error:
        read_headers(path)
    assert str(error.value) == f"{path}:2: {message}"
    assert TOKEN not in str(error.value)
