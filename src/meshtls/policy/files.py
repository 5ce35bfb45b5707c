"""Reads Istio's documents from files and directories."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from meshtls.config.document import read_text
from meshtls.errors import ConfigError
from meshtls.policy.istio.model import Documents
from meshtls.policy.istio.parse import DEFAULT_NAMESPACE, LARGEST, parse_documents

__all__ = ["MOST_FILES", "documents_of", "policy_files", "read_documents", "read_texts", "watched_files"]

#: Files of all paths together.
MOST_FILES = 50_000
_ENDINGS = (".yaml", ".yml", ".json")
#: Of files that nobody takes for policies in force: copies that editors and tools leave, what was switched off, and
#: pages.
_LEFT_OUT = ("~", ".bak", ".disabled", ".md", ".old", ".orig", ".rej", ".swp", ".tmp")
_WANTED = "wanted a file of Istio's policies, or a directory with some (*.yaml, *.yml, *.json)"


def read_documents(paths: Iterable[Path], *, default_namespace: str = DEFAULT_NAMESPACE) -> Documents:
    """The documents of these files and directories, in the order of ``policy_files``.

    Raises ConfigError with all problems. A path that can't be read, a directory without a file, and files without any
    document are problems, too: no policy at all would allow everything.
    """
    problems: list[str] = []
    given = list(paths)
    return documents_of(read_texts(given, problems), given, problems, default_namespace=default_namespace)


def read_texts(paths: Iterable[Path], problems: list[str]) -> list[tuple[str, str]]:
    """Name and text of each file. What is wrong with one is added to ``problems``."""
    texts: list[tuple[str, str]] = []
    for path in policy_files(paths, problems):
        try:
            texts.append((str(path), read_text(path, LARGEST)))
        except ConfigError as error:
            problems += error.problems
    return texts


def documents_of(
    texts: Iterable[tuple[str, str]],
    given: Iterable[Path],
    problems: Iterable[str] = (),
    *,
    default_namespace: str = DEFAULT_NAMESPACE,
) -> Documents:
    """The documents in these texts, which were read from the ``given`` paths. Raises ConfigError as above, with
    ``problems`` of the reading.
    """
    problems = list(problems)
    try:
        documents = parse_documents(texts, default_namespace=default_namespace)
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from error
    if problems:
        raise ConfigError(*problems)
    if not any((documents.peer_authentications, documents.authorization_policies, documents.request_authentications,
                documents.destination_rules)):  # fmt: skip
        names = ", ".join(map(str, given)) or "no path"
        raise ConfigError(f"{names}: wanted at least one document, got none")
    return documents


def policy_files(paths: Iterable[Path], problems: list[str]) -> list[Path]:
    """The files to read: each path that is a file, and a directory's own files by name, without hidden ones, and
    without copies that editors leave. Another file of a directory is a problem: its policies would silently not apply.

    A file that is reached twice is read once. What is wrong with a path is added to ``problems``.
    """
    return _found(paths, problems, [])


def watched_files(paths: Iterable[Path]) -> list[Path]:
    """What to watch: the files to read, and what else a directory has that is a problem."""
    others: list[Path] = []
    return [*_found(paths, [], others), *others]


def _found(paths: Iterable[Path], problems: list[str], others: list[Path]) -> list[Path]:
    found: dict[Path, Path] = {}
    for path in paths:
        for file in _files_of(path, problems, others):
            found.setdefault(file.resolve(), file)
            if len(found) > MOST_FILES:
                problems.append(f"{path}: wanted at most {MOST_FILES} files of policies, got more")
                return []
    return list(found.values())


def _files_of(path: Path, problems: list[str], others: list[Path]) -> Iterator[Path]:
    try:
        if not path.is_dir():
            yield path
            return
        shown = sorted(one for one in path.iterdir() if not one.name.startswith("."))
        wrong = {one: problem for one in shown if (problem := _problem_of(one, path))}
        files = [one for one in shown if one.suffix in _ENDINGS and not one.is_dir()]
    except OSError as error:
        problems.append(f"{path}: {_WANTED}: {error.strerror or error}")
        return
    problems += wrong.values()
    others += wrong
    if not files:
        problems.append(f"{path}: {_WANTED}, got a directory without any")
    yield from (one for one in files if one not in wrong)


def _problem_of(one: Path, directory: Path) -> str:
    """Of a directory's file that is not hidden."""
    if one.is_dir():
        return f"{one}: wanted files of policies in {directory}, got a directory"
    name = one.name
    if name.endswith(_LEFT_OUT) or (name.startswith("#") and name.endswith("#")):
        return ""
    if not name.endswith(_ENDINGS):
        return f"{one}: wanted a name that ends with {', '.join(_ENDINGS)}, or it is not read; rename or move it"
    # A link that leads nowhere is left to the reader, which reports it.
    return f"{one}: wanted a regular file" if one.exists() and not one.is_file() else ""
