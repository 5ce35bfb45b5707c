"""What is published: the wheel and the sdist, built here, and the wheel used in an empty directory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from tests.support.require import require, succeeds

ROOT = Path(__file__).parents[3]
LINK = re.compile(r"\]\(([^][()#\s]+)(?:#[^][()\s]*)?\)")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with both."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel, as pip unpacks it."""
    (archive,) = built.glob("*.whl")
    unpacked = built / "wheel"
    zipfile.ZipFile(archive).extractall(unpacked)  # noqa: S202  # we built it
    return unpacked


@pytest.fixture(scope="module")
def sdist(built: Path) -> Path:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        # Python before 3.11.4 has no such filter, and does not look at the attribute.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(built / "sdist")  # noqa: S202  # we built it
    (unpacked,) = (built / "sdist").iterdir()
    return unpacked


@pytest.mark.parametrize("with_gitignore", [True, False])
def test_no_virtual_environment_is_in_the_sdist_not_even_by_a_link(tmp_path: Path, with_gitignore: bool) -> None:
    tree = tmp_path / "tree"
    (tree / "src" / "meshtls").mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "src/meshtls/__init__.py"):
        shutil.copy(ROOT / name, tree / name)
    if not with_gitignore:
        (tree / ".gitignore").unlink()
    for name in (".venv-linked", "linked"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a-file").write_text("of an environment")
        (tree / name).symlink_to(tmp_path / name)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        found = {name.partition("/")[2] for name in tar.getnames()}
    # A link to a directory is followed: only the name keeps it out.
    assert {name for name in found if name.endswith("a-file")} == {"linked/a-file"}
    assert "src/meshtls/__init__.py" in found


def test_git_ignores_a_link_to_a_virtual_environment(tmp_path: Path) -> None:
    require("git", shutil.which("git") is not None, "wanted git")
    shutil.copy(ROOT / ".gitignore", tmp_path)
    for name in (".venv-linked", "linked"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    for command in (("init", "--quiet"), ("add", "--all")):
        subprocess.run(("git", *command), cwd=tmp_path, check=True, timeout=60)
    listed = subprocess.run(("git", "ls-files"), cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert listed.stdout.split() == [".gitignore", "linked"]


def test_metadata_names_licence_authors_and_supported_systems(wheel: Path) -> None:
    (info,) = wheel.glob("*.dist-info")
    metadata = Parser().parsestr((info / "METADATA").read_text("utf-8"))

    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "meshtls authors"
    assert (info / "licenses" / "LICENSE").read_text("utf-8").startswith("SPDX-License-Identifier: Apache-2.0\n")
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier") or []
    for classifier in (
        "Operating System :: POSIX :: Linux",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)),
    ):
        assert classifier in classifiers
    assert metadata.get_all("Project-URL") is None


def test_every_relative_link_of_the_documents_leads_to_a_file_of_the_sdist(sdist: Path) -> None:
    documents = [*sdist.glob("*.md"), *sdist.glob("docs/**/*.md"), sdist / "examples" / "README.md"]
    links = [
        (document.relative_to(sdist), link)
        for document in documents
        for link in LINK.findall(document.read_text("utf-8"))
        if "://" not in link
    ]

    assert len(links) >= 5
    assert [(document, link) for document, link in links if not (sdist / document.parent / link).exists()] == []


def test_the_wheel_prints_the_alert_rules(wheel: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "meshtls", "observe", "rules"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (wheel / "meshtls/observe/boards/rules.yaml").read_text("utf-8")


def test_a_server_of_the_wheel_migrates_an_empty_data_store(wheel: Path, tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    config.write_text(f"trust_domain: example.org\ndata_dir: {tmp_path}/data\nbind_port: 0\n", "utf-8")
    start = """\
import asyncio, pathlib, sys, meshtls
from meshtls.server.config import load_config
from meshtls.server.startup import datastore_version, locked_data_dir, opened_database

async def versions():
    config = load_config(pathlib.Path(sys.argv[1]))
    with locked_data_dir(config):
        async with opened_database(config):
            pass
    return await datastore_version(config)

found = asyncio.run(versions())
print(pathlib.Path(meshtls.__file__).parents[1], found.present, found.current)
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, str(config)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    newest = max(file.name for file in (wheel / "meshtls/server/store/migrations/versions").glob("v*.py"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(wheel), newest[1:5], "True"]


def test_meshtls_up_works_from_a_wheel_in_an_empty_directory(wheel: Path, tmp_path: Path) -> None:
    # Its sidecars have fixed ports, so it gets a network of its own.
    own_network = ["unshare", "--map-root-user", "--net"]
    require("unshare", succeeds([*own_network, "ip", "link"]), "wanted to make a network namespace")
    mesh = "import sys; from meshtls.cli.main import main; main()"
    script = 'ip link set lo up && exec "$@"'
    done = subprocess.run(
        [*own_network, "sh", "-c", script, "sh", sys.executable, "-P", "-c", mesh, "up", "--once"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("2 calls served over mutual TLS, 2 callers refused.\n")
