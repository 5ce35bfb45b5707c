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
from pathlib import Path

from meshtls.ca.keys.files import SECRET, sync_directory, written
from meshtls.errors import ConfigError
from meshtls.svid.context import X509Context

__all__ = ["BUNDLE", "KEY", "SVID", "contents", "only_mended_by_hand", "write_files"]

SVID, KEY, BUNDLE = "svid.pem", "key.pem", "bundle.pem"
_LIST = ".meshtls-files"
_COMES_AND_GOES = re.compile(r"(?:svid|key)\.[0-9]+\.pem|bundle\.[a-z0-9._-]+\.pem", re.ASCII)
_BY_HAND = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


def contents(context: X509Context) -> dict[str, bytes]:
    """Each file's name and content, in the order in which they are put in place.

    ``svid.pem``, ``key.pem`` and ``bundle.pem`` are the default identity and its own trust domain's authorities. Of
    several identities each is in ``svid.0.pem``, ``key.0.pem`` and so on, too; a federated trust domain's authorities
    are in a file of their own, ``bundle.<trust domain>.pem``.
    """
    own = context.svid.spiffe_id.trust_domain
    files = {
        BUNDLE if bundle.trust_domain == own else f"bundle.{bundle.trust_domain}.pem": bundle.to_pem()
        for bundle in context.bundles
    }
    several = context.svids if len(context.svids) > 1 else ()
    files |= {f"key.{place}.pem": svid.key_pem() for place, svid in enumerate(several)}
    files |= {f"svid.{place}.pem": svid.chain_pem() for place, svid in enumerate(several)}
    return files | {KEY: context.svid.key_pem(), SVID: context.svid.chain_pem()}


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
    return frozenset(filter(_COMES_AND_GOES.fullmatch, text.splitlines()))


def _write_list(directory: Path, names: frozenset[str]) -> None:
    path = directory / _LIST
    if not names:
        path.unlink(missing_ok=True)
        return
    with written({path: "".join(f"{name}\n" for name in sorted(names)).encode()}, _mode) as temporary:
        temporary[path].replace(path)


def _mode(path: Path) -> int:
    return SECRET if path.name.startswith("key.") else 0o644
