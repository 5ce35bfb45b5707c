"""Writes SVIDs and bundles as files, for programs that do not support SPIFFE.

All files of a set are first written under temporary names. Then each is renamed over the old one: bundles, then keys,
then certificates. A program that reloads when ``svid.pem`` changes, or when it is notified, finds a consistent set.

A set always has ``svid.pem``, ``key.pem`` and ``bundle.pem``. Other files come and go with identities and federations,
and files of removed ones must be deleted. Their names do not show who wrote them: a ``bundle.corp.pem`` may be the
user's own. So the file ``.meshtls-files`` lists those that are ours. A name is added before its file is created, and
removed after its file is deleted, so that none is lost if the process is killed in between.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from cryptography import x509

from meshtls.bundle import TrustBundle
from meshtls.errors import ConfigError, InvalidSvidError, LocalIdentityError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import SECRET, sync_directory, written
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid, spiffe_id_of

__all__ = [
    "BUNDLE",
    "KEY",
    "PROOF",
    "SVID",
    "Choice",
    "contents",
    "is_permanent",
    "pinned",
    "publish",
    "publish_bundle",
    "remove_keys",
    "write_files",
]

SVID, KEY, BUNDLE = "svid.pem", "key.pem", "bundle.pem"
#: Beside them, where it was asked for (C2SP tlog-proof).
PROOF = "svid.tlog-proof"
_LIST = ".meshtls-files"
_COMES_AND_GOES = re.compile(r"(?:svid|key)\.[A-Za-z0-9._~-]+\.pem|bundle\.[a-z0-9._-]+\.pem", re.ASCII)
_LONGEST_NAME = 200
_BY_HAND = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of several SVIDs to use: the one of this ID, with this hint, or both. Without either, the default one."""

    spiffe_id: SpiffeId | None = None
    hint: str | None = None

    def __bool__(self) -> bool:
        return self.spiffe_id is not None or self.hint is not None

    def __str__(self) -> str:
        of = f" of {self.spiffe_id}" if self.spiffe_id else ""
        return f"an SVID{of}" + (f" with the hint {self.hint!r}" if self.hint is not None else "")

    def of(self, context: X509Context) -> X509Context:
        """The context with the chosen SVID first. Raises LocalIdentityError if there is none."""
        chosen = [
            svid
            for svid in context.svids
            if self.spiffe_id in (None, svid.spiffe_id) and self.hint in (None, svid.hint)
        ]
        if not chosen:
            described = [
                f"{svid.spiffe_id} (hint {svid.hint!r})" if svid.hint else str(svid.spiffe_id) for svid in context.svids
            ]
            given = ", ".join(described) or "none"
            raise LocalIdentityError(f"wanted {self}, the Workload API gives this process {given}")
        return replace(context, svids=(chosen[0], *(svid for svid in context.svids if svid is not chosen[0])))


def pinned(directory: Path, choice: Choice) -> Choice:
    """``choice`` or, if it is empty, the identity whose files are in the directory: another must not replace them.

    Raises ConfigError if there is a ``svid.pem`` that is not an SVID.
    """
    path = directory / SVID
    if choice:
        return choice
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
        return Choice(spiffe_id_of(certificates[0]))
    except (FileNotFoundError, NotADirectoryError):
        return choice
    except OSError as error:
        raise ConfigError(f"{path}: wanted to read its SPIFFE ID: {error.strerror or error}") from error
    except (InvalidSvidError, *PARSE_ERRORS) as error:
        raise ConfigError(
            f"{path}: wanted an SVID or no file, got something else; move it away, or select an SVID with --spiffe-id"
        ) from error


def contents(context: X509Context, *, every: bool = False) -> dict[str, bytes]:
    """The name and content of each file, in the order in which they are put into place.

    - ``svid.pem``, ``key.pem``: the first identity.
    - ``bundle.pem``: the authorities of its trust domain.
    - ``bundle.<trust domain>.pem``: the authorities of each federated trust domain.
    - with ``every``, also two files per identity, such as ``svid.example.org~ns~web.pem`` and its ``key.`` file.
    """
    own = context.svid.spiffe_id.trust_domain
    files = {
        BUNDLE if bundle.trust_domain == own else f"bundle.{bundle.trust_domain}.pem": bundle.to_pem()
        for bundle in context.bundles
    }
    named: dict[str, X509Svid] = {}
    # The names do not depend on the order of the SVIDs. No two IDs have the same name: an ID has no `~`, and its
    # segments are not empty.
    for svid in context.svids if every else ():
        text = str(svid.spiffe_id).removeprefix("spiffe://").replace("/", "~")
        if len(text) > _LONGEST_NAME:
            text = f"{text[:_LONGEST_NAME]}~~{sha256(text.encode()).hexdigest()[:16]}"
        twins = sum(other.spiffe_id == svid.spiffe_id for other in named.values())
        named[f"{text}~~{twins + 1}" if twins else text] = svid
    files |= {f"key.{name}.pem": svid.key_pem() for name, svid in named.items()}
    files |= {f"svid.{name}.pem": svid.chain_pem() for name, svid in named.items()}
    return files | {KEY: context.svid.key_pem(), SVID: context.svid.chain_pem()}


def write_files(directory: Path, files: dict[str, bytes]) -> tuple[Path, ...]:
    """Replace the set of files in this directory, which is created if missing. Keys have mode 0600 from the start.

    Files of an earlier set that are not in this one are deleted: their identity or federation is gone. Returns the
    paths. Raises ConfigError; if the disk was full, the old set is unchanged.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        before, after = _listed(directory), frozenset(filter(_COMES_AND_GOES.fullmatch, files))
        with written({directory / name: content for name, content in files.items()}, _mode) as temporary:
            if not after <= before:
                _write_list(directory, before | after)
            for path, whole in temporary.items():
                whole.replace(path)
        for name in before - after:
            (directory / name).unlink(missing_ok=True)
        if not before <= after:
            _write_list(directory, after)
        sync_directory(directory)
    except OSError as error:
        raise ConfigError(f"{directory}: wanted to write SVIDs there: {error.strerror or error}") from error
    return tuple(directory / name for name in files)


def remove_keys(directory: Path) -> None:
    """Delete the keys that ``write_files`` wrote. The certificates stay, and record the identity of the directory.

    Raises ConfigError.
    """
    try:
        names = [KEY, *(name for name in _listed(directory) if name.startswith("key."))]
        for name in names:
            (directory / name).unlink(missing_ok=True)
        if directory.is_dir():
            sync_directory(directory)
    except OSError as error:
        raise ConfigError(f"{directory}: wanted to remove keys there: {error.strerror or error}") from error


def is_permanent(error: ConfigError) -> bool:
    """Whether ``write_files`` failed permanently, such as for missing permission, unlike for a full disk."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _BY_HAND


def _listed(directory: Path) -> frozenset[str]:
    """The files in the list. Names of another form are ignored: a forged list can't make us delete other files."""
    try:
        text = (directory / _LIST).read_text("utf-8", errors="replace")
    except FileNotFoundError:
        return frozenset()
    return frozenset(filter(_COMES_AND_GOES.fullmatch, text.split("\n")))


def _write_list(directory: Path, names: frozenset[str]) -> None:
    path = directory / _LIST
    if not names:
        path.unlink(missing_ok=True)
        return
    with written({path: "".join(f"{name}\n" for name in sorted(names)).encode()}, _mode) as temporary:
        temporary[path].replace(path)


def _mode(path: Path) -> int:
    return SECRET if path.name.startswith("key.") else 0o644


def publish_bundle(directory: Path, bundle: TrustBundle) -> tuple[Path, Path]:
    """Write ``<trust domain>.pem`` and ``<trust domain>.jwks.json`` there. Raises ConfigError."""
    pem, document = (directory / f"{bundle.trust_domain}{end}" for end in (".pem", ".jwks.json"))
    publish(pem, bundle.to_pem())
    publish(document, bundle.to_jwks().encode() + b"\n")
    return pem, document


def publish(path: Path, content: bytes, what: str = "the trust bundle") -> None:
    """Replace a public file atomically, readable by all; ``what`` names it in the error. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written({path: content}, lambda _path: 0o644) as temporary:
            temporary[path].replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: wanted to write {what} there: {error.strerror or error}") from error
