"""From a caller to its selectors: ``unix``, and ``docker`` or ``k8s`` where its cgroup names a container."""

from __future__ import annotations

import asyncio
import grp
import hashlib
import os
import pwd
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator

from meshtls.agent.attest.cgroup import container_selectors
from meshtls.agent.attest.facts import Facts, read_facts, started
from meshtls.agent.attest.proc_text import Owners
from meshtls.agent.attest.process import ProcessDirectory, connector_runs
from meshtls.ca.registration import Selector
from meshtls.errors import AccessError, RequestError
from meshtls.logs import logger
from meshtls.proto.peer_credentials import Credentials, credentials_of

__all__ = ["ATTESTORS", "Attestor", "Caller"]

ATTESTORS = ("unix", "docker", "k8s")
_MOST_HASHES = 1024

log = logger("meshtls.agent")


class Caller:
    """The process at the other end of one connection. Close it with the connection."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.process: ProcessDirectory | None = None
        self.started = 0
        self.why_unknown: str | None = None
        # Nothing of a process in a namespace that we can't see has a number here.
        if credentials.pid:
            self._find()

    @classmethod
    def of(cls, connection: socket.socket) -> Caller:
        """Whoever made this connection, accepted a moment ago."""
        caller = cls(credentials_of(connection))
        if caller.process is not None and not connector_runs(connection):
            caller.close()
            caller.why_unknown = f"{caller}: it ended before it was looked at"
        return caller

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
            self.process = None
            self.why_unknown = f"{self}: its connection has ended"

    def __str__(self) -> str:
        return str(self.credentials)

    def _find(self) -> None:
        try:
            self.process = ProcessDirectory(self.credentials.pid)
            self.started = started(self.process, self.credentials)
        except AccessError as error:
            self.close()
            self.why_unknown = str(error)


class Attestor:
    """``kinds`` are the types of selectors to give. Programs are hashed once, as long as the file stays as it is."""

    def __init__(self, kinds: Collection[str] = ATTESTORS) -> None:
        self._kinds = frozenset(kinds)
        self._hashes: OrderedDict[tuple[int, ...], str] = OrderedDict()

    async def attest(self, caller: Caller) -> frozenset[Selector]:
        """What is true of the caller now. Raises AccessError where that can't be said for sure.

        Of a caller in a process namespace that we can't see it is only what the kernel says: its user and its group.
        """
        if caller.why_unknown:
            raise AccessError(caller.why_unknown)
        credentials = caller.credentials
        if caller.process is None:
            facts = Facts(Owners(credentials.uid, credentials.gid, ()), None, None, None)
        else:
            facts = read_facts(caller.process, credentials, caller.started)
        # Names may come over a network and programs are long: neither may hold up other callers.
        # Shielded, since the thread has to close what it reads.
        selectors = await asyncio.shield(asyncio.to_thread(self._selectors, facts))
        return frozenset(one for one in selectors if one.type in self._kinds)

    def _selectors(self, facts: Facts) -> frozenset[Selector]:
        try:
            found = set(_selectors_of(facts))
            digest = self._digest(facts.binary) if facts.binary is not None else None
        finally:
            if facts.binary is not None:
                os.close(facts.binary)
        if digest:
            found.add(Selector("unix", f"sha256:{digest}"))
        return frozenset(found)

    def _digest(self, binary: int) -> str | None:
        status = os.fstat(binary)
        key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest = self._hashes.get(key)
        if digest is None:
            with open(binary, "rb", closefd=False) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self._hashes[key] = digest
            while len(self._hashes) > _MOST_HASHES:
                self._hashes.popitem(last=False)
        return digest


def _selectors_of(facts: Facts) -> Iterator[Selector]:
    owners = facts.owners
    yield from _unix("uid", [owners.uid], "user", _user)
    yield from _unix("gid", [owners.gid], "group", _group)
    yield from _unix("supplementary_gid", owners.groups, "supplementary_group", _group)
    if facts.path is not None and facts.binary is not None and _names(facts.path, facts.binary):
        yield from _selector(f"path:{facts.path}")
    if facts.cgroup is not None:
        yield from container_selectors(facts.cgroup)


def _names(path: str, binary: int) -> bool:
    """Whether this path is the running program's for us, too.

    It is what the caller's mount namespace calls it, and everybody may make one in which any file has any path. A
    program that was replaced while it ran has no path either, until it is started anew.
    """
    try:
        same = os.path.samestat(os.stat(path), os.fstat(binary))
    except OSError:
        same = False
    if not same:
        log.info("a caller's path is left out: %s is another file to the agent than the one that runs", path)
    return same


def _unix(number: str, ids: Iterable[int], name: str, named: Callable[[int], str | None]) -> Iterator[Selector]:
    for one in ids:
        yield Selector("unix", f"{number}:{one}")
        said = named(one)
        if said:
            yield from _selector(f"{name}:{said}")


def _selector(value: str) -> Iterator[Selector]:
    try:
        yield Selector("unix", value)
    except RequestError as error:
        log.warning("a caller's selector is left out: %s", error)


def _user(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _group(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None
