"""Files and directories of policies: which are read, in which order, and what is missing is never passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshtls.errors import ConfigError
from meshtls.policy import files
from meshtls.policy.files import read_documents, watched_files

_WANTED = "wanted a file of Istio's policies, or a directory with some (*.yaml, *.yml, *.json)"


def write(file: Path, name: str = "") -> Path:
    meta = f"{{name: {name or file.name.strip('.').partition('.')[0]}}}"
    file.write_text(f"apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {meta}\n")
    return file


def names(*paths: Path) -> list[str]:
    return [one.meta.name for one in read_documents(paths).peer_authentications]


def refusal(*paths: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as refused:
        read_documents(paths)
    return refused.value.problems


def test_a_directory_in_a_directory_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "web.yaml")
    (tmp_path / "more").mkdir()
    assert refusal(tmp_path) == (f"{tmp_path / 'more'}: wanted files of policies in {tmp_path}, got a directory",)


@pytest.mark.parametrize("name", ["deny.YAML", "deny.Yml", "deny.yaml.txt", "deny.yaml.1", "deny", "deny.toml"])
def test_a_file_of_a_directory_that_is_not_read_is_a_problem(tmp_path: Path, name: str) -> None:
    write(tmp_path / "allow.yaml")
    file = write(tmp_path / name)
    assert refusal(tmp_path) == (
        f"{file}: wanted a name that ends with .yaml, .yml, .json, or it is not read; rename or move it",
    )
    file.rename(tmp_path / "deny.yaml")
    assert names(tmp_path) == ["allow", "deny"]


@pytest.mark.parametrize(
    "name",
    [
        *("deny.yaml~", "#deny.yaml#", ".#deny.yaml", ".deny.yaml.swp", "deny.yaml.bak", "deny.yaml.orig", "README.md"),
        *("deny.yaml.disabled", "deny.yaml.old", "deny.yaml.rej", "deny.yaml.tmp", "..data", "deny.yaml.swp"),
    ],
)
def test_copies_of_editors_and_hidden_files_are_left_out(tmp_path: Path, name: str) -> None:
    write(tmp_path / "allow.yaml")
    write(tmp_path / name)
    assert names(tmp_path) == ["allow"]


def test_a_mounted_config_map_is_read_through_its_links(tmp_path: Path) -> None:
    data = tmp_path / "..2026_01_31"
    data.mkdir()
    write(data / "a.yaml")
    (tmp_path / "..data").symlink_to(data)
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert names(tmp_path) == ["a"]


def test_a_directory_is_its_own_files_by_name_without_hidden_ones(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write(other / "e.txt")
    tmp_path = tmp_path / "policies"
    tmp_path.mkdir()
    for name in ("c.yml", "a.yaml", "b.json", ".d.yaml", "f.yaml~"):
        write(tmp_path / name)
    (tmp_path / "b.json").write_text(
        '{"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": {"name": "b"}}'
    )
    (tmp_path / ".hidden").mkdir()
    assert names(tmp_path) == ["a", "b", "c"]
    # A file that is named is read, whatever its name is, and once.
    assert names(other / "e.txt", tmp_path, tmp_path / "a.yaml") == ["e", "a", "b", "c"]


def test_missing_files_and_empty_directories_are_refused_with_all_other_problems(tmp_path: Path) -> None:
    empty, missing, bad = tmp_path / "empty", tmp_path / "missing.yaml", tmp_path / "bad.yaml"
    empty.mkdir()
    bad.write_text("kind: x\n")
    assert refusal(empty, missing, bad) == (
        f"{empty}: {_WANTED}, got a directory without any",
        f"{missing}: wanted a configuration file to read: No such file or directory",
        f"{bad}, line 1: apiVersion: wanted a document of security.istio.io or networking.istio.io, got nothing,"
        " kind 'x'; keep other documents in other files",
    )
    write(empty / "a.yaml")
    assert names(empty) == ["a"]


def test_a_pipe_and_a_link_that_leads_nowhere_are_not_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml")
    link, pipe = tmp_path / "l.yaml", tmp_path / "p.yaml"
    link.symlink_to(tmp_path / ".nowhere")
    os.mkfifo(pipe)
    assert refusal(tmp_path) == (
        f"{pipe}: wanted a regular file",
        f"{link}: wanted a configuration file to read: No such file or directory",
    )
    pipe.unlink()
    write(tmp_path / ".nowhere", "l")
    assert names(tmp_path) == ["a", "l"]


def test_a_pipe_that_is_named_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "p.yaml"
    os.mkfifo(pipe)
    assert refusal(pipe) == (f"{pipe}: wanted a configuration file to read: wanted a regular file, got a named pipe",)
    pipe.unlink()
    assert names(write(pipe)) == ["p"]


def test_a_pipe_that_a_descriptor_leads_to_is_read(tmp_path: Path) -> None:
    ours, writer = os.pipe()
    try:
        os.write(writer, write(tmp_path / "p.yaml").read_bytes())
    finally:
        os.close(writer)
    try:
        assert names(Path(f"/dev/fd/{ours}")) == ["p"]
    finally:
        os.close(ours)


def test_files_without_any_document_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    other = write(tmp_path / "b.yaml")
    empty_list = '{"apiVersion": "v1", "kind": "List", "items": []}'
    for text in ("", "# nothing\n---\n", empty_list):
        file.write_text(text)
        # Beside a file with documents, too: a DENY that was in the empty one would be lifted.
        for paths in ((file,), (tmp_path,), (file, other)):
            assert refusal(*paths) == (f"{file}: wanted at least one document, got none",)
    assert refusal() == ("no path: wanted at least one document, got none",)
    write(file)
    file.write_text(f"---\n{empty_list}\n---\n{file.read_text()}")
    assert names(tmp_path) == ["a", "b"]


def test_files_that_are_a_problem_in_a_directory_are_watched_and_files_left_out_are_not(tmp_path: Path) -> None:
    allow, odd, more, pipe = (tmp_path / name for name in ("allow.yaml", "deny.YAML", "more", "p.yaml"))
    write(allow)
    write(tmp_path / "allow.yaml~")
    write(tmp_path / ".hidden")
    assert watched_files([tmp_path]) == [allow]
    write(odd)
    more.mkdir()
    os.mkfifo(pipe)
    assert watched_files([tmp_path]) == [allow, odd, more, pipe]


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 2)
    write(tmp_path / "a.yaml")
    write(tmp_path / "b.yaml")
    assert names(tmp_path) == ["a", "b"]
    write(tmp_path / "c.yaml")
    assert refusal(tmp_path) == (f"{tmp_path}: wanted at most 2 files of policies, got more",)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"a: \xff\n")
    assert refusal(tmp_path) == (f"{file}, line 1: wanted UTF-8, got the byte 0xff",)


def test_the_same_document_in_two_files_is_refused(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a.yaml", "p"), write(tmp_path / "b.yaml", "p")
    assert refusal(tmp_path) == (
        f"{second}, line 3: metadata: wanted each PeerAuthentication once, got default/p again;"
        f" the first is in {first}, line 3",
    )
