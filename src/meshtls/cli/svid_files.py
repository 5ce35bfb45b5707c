"""SVIDs and bundles as files, for programs that do not speak SPIFFE.

All of a set are written beside the old ones first; then each takes the old one's place in one step: bundles, keys,
and the certificates last. A program that reloads when ``svid.pem`` changes, or when it is told, finds the set whole.

``svid.pem``, ``key.pem`` and ``bundle.pem`` are always in it. The rest comes and goes with identities and federations,
and what is gone has to be removed. But a name proves nothing: somebody may have a ``bundle.corp.pem`` there. So a list
beside them, ``.meshtls-files``, says which of that kind are ours. It has a new name before that file is there, and an
old one until it is gone, so that none is forgotten where we are killed in between.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from cryptography import x509

from meshtls.errors import ConfigError, InvalidSvidError, LocalIdentityError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.private_files import SECRET, sync_directory, written
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.x509 import X509Svid, spiffe_id_of

__all__ = ["BUNDLE", "KEY", "SVID", "Choice", "contents", "only_mended_by_hand", "pinned", "remove_keys", "write_files"]

SVID, KEY, BUNDLE = "svid.pem", "key.pem", "bundle.pem"
_LIST = ".meshtls-files"
_COMES_AND_GOES = re.compile(r"(?:svid|key)\.[A-Za-z0-9._~-]+\.pem|bundle\.[a-z0-9._-]+\.pem", re.ASCII)
_LONGEST_NAME = 200
_BY_HAND = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which of several SVIDs is ``svid.pem``: of this ID, with this hint, or both; neither is the default SVID."""

    spiffe_id: SpiffeId | None = None
    hint: str | None = None

    def __bool__(self) -> bool:
        return self.spiffe_id is not None or self.hint is not None

    def __str__(self) -> str:
        of = f" of {self.spiffe_id}" if self.spiffe_id else ""
        return f"an SVID{of}" + (f" with the hint {self.hint!r}" if self.hint is not None else "")

    def of(self, context: X509Context) -> X509Context:
        """The context with the chosen SVID first. Raises LocalIdentityError where there is none."""
        chosen = [svid for svid in context.svids if self._fits(svid)]
        if not chosen:
            given = ", ".join(_described(svid) for svid in context.svids) or "none"
            raise LocalIdentityError(f"wanted {self}, the Workload API gives this process {given}")
        return replace(context, svids=(chosen[0], *(svid for svid in context.svids if svid is not chosen[0])))

    def _fits(self, svid: X509Svid) -> bool:
        return self.spiffe_id in (None, svid.spiffe_id) and self.hint in (None, svid.hint)


def _described(svid: X509Svid) -> str:
    return f"{svid.spiffe_id} (hint {svid.hint!r})" if svid.hint else str(svid.spiffe_id)


def pinned(directory: Path, choice: Choice) -> Choice:
    """``choice``, or where it leaves that open the identity whose files are there: they are not given to another one.

    Raises ConfigError where ``svid.pem`` is there and is no SVID.
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
        raise ConfigError(f"{path}: wanted to read whose it is: {error.strerror or error}") from error
    except (InvalidSvidError, *PARSE_ERRORS) as error:
        raise ConfigError(
            f"{path}: wanted an SVID or no file, found another one; move it away, or say with --spiffe-id what to write"
        ) from error


def contents(context: X509Context, *, every: bool = False) -> dict[str, bytes]:
    """Each file's name and content, in the order in which they are put in place.

    ``svid.pem``, ``key.pem`` and ``bundle.pem`` are the first identity and its own trust domain's authorities; a
    federated trust domain's authorities are in a file of their own, ``bundle.<trust domain>.pem``. With ``every`` each
    identity also has files named after it: ``svid.example.org~ns~web.pem`` and the key beside it.
    """
    own = context.svid.spiffe_id.trust_domain
    files = {
        BUNDLE if bundle.trust_domain == own else f"bundle.{bundle.trust_domain}.pem": bundle.to_pem()
        for bundle in context.bundles
    }
    named = _named(context.svids) if every else {}
    files |= {f"key.{name}.pem": svid.key_pem() for name, svid in named.items()}
    files |= {f"svid.{name}.pem": svid.chain_pem() for name, svid in named.items()}
    return files | {KEY: context.svid.key_pem(), SVID: context.svid.chain_pem()}


def _named(svids: Sequence[X509Svid]) -> dict[str, X509Svid]:
    """By names that do not depend on their order. No two IDs have one: ``~`` is in none, and no segment is empty."""
    named: dict[str, X509Svid] = {}
    for svid in svids:
        text = str(svid.spiffe_id).removeprefix("spiffe://").replace("/", "~")
        if len(text) > _LONGEST_NAME:
            text = f"{text[:_LONGEST_NAME]}~~{sha256(text.encode()).hexdigest()[:16]}"
        twins = sum(other.spiffe_id == svid.spiffe_id for other in named.values())
        named[f"{text}~~{twins + 1}" if twins else text] = svid
    return named


def write_files(directory: Path, files: dict[str, bytes]) -> tuple[Path, ...]:
    """Replace the set in this directory, which is made where it is missing; keys are 0600 from their first byte.

    What an earlier call wrote there and is not in the set any more is removed: it belongs to an identity or a
    federation that is no more. Gives the paths. Raises ConfigError; where it was for want of room, the old set is there
    still.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(directory, files)
    except OSError as error:
        raise ConfigError(f"{directory}: wanted to write SVIDs there: {error.strerror or error}") from error
    return tuple(directory / name for name in files)


def remove_keys(directory: Path) -> None:
    """Remove the keys that ``write_files`` wrote there; certificates stay, and with them whose files these are.

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


def only_mended_by_hand(error: ConfigError) -> bool:
    """Whether ``write_files`` failed for what time does not mend, such as a missing permission (and unlike a full
    disk).
    """
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in _BY_HAND


def _replace(directory: Path, files: dict[str, bytes]) -> None:
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


def _listed(directory: Path) -> frozenset[str]:
    """Whoever changes the list can't make us remove what has another kind of name, or is elsewhere."""
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
