"""The completion scripts of ``meshtls completion``, run by the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.cli.processes import meshtls
from tests.support.require import require

SHELLS = ("bash", "zsh", "fish")
#: Seconds; each completion starts Python twice.
BOUND = 40.0


def environment(home: Path) -> dict[str, str]:
    """A new user's: no files of the shell's own, and this checkout's ``meshtls`` on PATH."""
    bin_directory = Path(sys.executable).parent
    return {"PATH": f"{bin_directory}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


def script(shell: str, into: Path) -> Path:
    require(shell, shutil.which(shell) is not None, f"no {shell} on PATH")
    done = meshtls("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    into.mkdir(parents=True, exist_ok=True)
    file = into / "meshtls-completion"
    file.write_text(done.stdout)
    return file


def bash(line: str, home: Path) -> list[str]:
    words = line.split(" ")
    program = (
        f'source "{script("bash", home)}"; COMP_WORDS=({" ".join(words[:-1])} "{words[-1]}");'
        f' COMP_CWORD={len(words) - 1}; _meshtls_completion meshtls; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", program], env=environment(home), capture_output=True, text=True, timeout=BOUND
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def fish(line: str, home: Path) -> list[str]:
    program = f'source "{script("fish", home)}"; complete --do-complete "{line}"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", program], env=environment(home), capture_output=True, text=True, timeout=BOUND
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [found.partition("\t")[0] for found in done.stdout.splitlines()]


def zsh(line: str, home: Path) -> list[str]:
    """The line in zsh's editor after a tab: only an interactive zsh completes."""
    file = script("zsh", home)
    (home / ".zshrc").write_text(f"PS1='ready> '; autoload -Uz compinit; compinit -u -d {home}/dump; source {file}\n")
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe("zsh", ["zsh", "-o", "no_global_rcs", "-i"], environment(home))  # noqa: S606  # no shell but zsh itself
    try:
        until(terminal, "ready> ")
        os.write(terminal, line.encode() + b"\t")
        completed = until(terminal, "meshtls s", "erver ")
        return completed.replace("\r", "").rpartition("meshtls ")[2].split()
    finally:
        os.close(terminal)
        os.kill(child, 9)
        os.waitpid(child, 0)


def until(terminal: int, *marks: str) -> str:
    """The terminal's output up to the last of these marks, which must appear in this order."""
    shown, end = "", time.monotonic() + BOUND
    while True:
        at = 0
        for mark in marks:
            at = shown.find(mark, at) + len(mark) if mark in shown[at:] else -1
            if at < 0:
                break
        if at >= 0:
            return shown[:at]
        left = end - time.monotonic()
        assert left > 0, f"wanted {marks} within {BOUND} s, got {shown!r}"
        if select.select([terminal], [], [], left)[0]:
            shown += os.read(terminal, 4096).decode("utf-8", "replace")


def test_bash_completes_a_verb_a_verb_of_a_group_and_an_option(tmp_path: Path) -> None:
    assert bash("meshtls ser", tmp_path) == ["server"]
    assert bash("meshtls server va", tmp_path) == ["validate"]
    assert bash("meshtls version --out", tmp_path) == ["--output"]
    assert bash("meshtls nonsense", tmp_path) == []


def test_fish_completes_a_verb_a_verb_of_a_group_and_an_option(tmp_path: Path) -> None:
    assert fish("meshtls ser", tmp_path) == ["server"]
    assert fish("meshtls server va", tmp_path) == ["validate"]
    assert fish("meshtls version --out", tmp_path) == ["--output"]
    assert fish("meshtls nonsense", tmp_path) == []


def test_zsh_completes_a_verb(tmp_path: Path) -> None:
    assert zsh("meshtls ser", tmp_path) == ["server"]


@pytest.mark.parametrize("shell", SHELLS)
def test_help_shows_how_to_install_the_completion_script(shell: str) -> None:
    done = meshtls("completion", "--help")

    assert done.returncode == 0
    assert f"meshtls completion {shell} > ~/" in done.stdout


def test_completion_of_an_unknown_shell_names_the_known_ones() -> None:
    done = meshtls("completion", "csh")

    assert done.returncode == 2
    assert "'csh' is not one of 'bash', 'zsh', 'fish'." in done.stderr


def test_completion_without_a_shell_names_the_known_ones() -> None:
    done = meshtls("completion")

    assert done.returncode == 2
    assert "Error: Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish\n" in done.stderr


def test_meshtls_without_a_verb_shows_the_verbs() -> None:
    done = meshtls()

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert all(f"\n  {verb} " in done.stderr + done.stdout for verb in ("up", "server", "agent", "sidecar"))


def test_version_prints_what_a_bug_report_needs() -> None:
    done = meshtls("version")

    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "meshtls",
        "python",
        "openssl",
        "cryptography",
        "platform",
    ]
