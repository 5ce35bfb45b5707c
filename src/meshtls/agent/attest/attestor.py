"""From a caller to its selectors: ``unix``, and ``docker`` or ``k8s`` where its cgroup names a container."""

from __future__ import annotations

import asyncio
import grp
import logging
import os
import pwd
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Set

from meshtls.agent.attest.cgroup import container_selectors
from meshtls.agent.attest.digests import DEFAULT_SIZE_LIMIT, Digests, UnhashedError
from meshtls.agent.attest.facts import Facts, read_facts, started
from meshtls.agent.attest.fair_threads import FairThreads
from meshtls.agent.attest.proc_text import Owners, text_of
from meshtls.agent.attest.process import ProcessDirectory, peer_still_runs
from meshtls.errors import AccessError, RequestError
from meshtls.logs import logger
from meshtls.memo import keep_newest
from meshtls.printable import printable
from meshtls.registration import DIGEST, Selector
from meshtls.rpc.peer_credentials import Credentials, credentials_of

__all__ = ["ATTESTORS", "Attestor", "Caller"]

ATTESTORS = ("unix", "docker", "k8s")
_MOST_LOGGED = 1024
_LOOKUP_THREADS = 32
_LOOKUPS_OF_ONE = 4

log = logger("meshtls.agent")


class Caller:
    """The process at the other end of one connection. Close it with the connection."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.process: ProcessDirectory | None = None
        self.started = 0
        self.why_unknown: str | None = None
        #: One attestation at a time: each holds a descriptor.
        self.attesting = asyncio.Lock()
        # A process in a PID namespace that we can't see has no PID here.
        if credentials.pid:
            self._find()

    @classmethod
    def of(cls, connection: socket.socket) -> Caller:
        """The caller of this connection, which was accepted a moment ago."""
        caller = cls(credentials_of(connection))
        if caller.process is not None and not peer_still_runs(connection):
            caller.close()
            caller.why_unknown = f"{caller}: it ended before it could be attested"
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


def hash_always(selectors: Set[Selector]) -> bool:
    """Hash every program, whatever its other selectors."""
    return True


class Attestor:
    """Attests callers. ``kinds`` are the types of selectors to return; ``size_limit`` is as for Digests, in bytes.

    Callers of one user in one container are one party: no other party waits for them, however many they are and
    whatever they do with their programs.
    """

    def __init__(self, kinds: Collection[str] = ATTESTORS, size_limit: int = DEFAULT_SIZE_LIMIT) -> None:
        self._kinds = frozenset(kinds)
        self._threads = FairThreads(_LOOKUP_THREADS, share=_LOOKUPS_OF_ONE)
        self._digests = Digests(size_limit)
        self._logged: OrderedDict[str, None] = OrderedDict()

    async def attest(
        self, caller: Caller, digest_wanted: Callable[[Set[Selector]], bool] = hash_always
    ) -> frozenset[Selector]:
        """The caller's selectors now.

        ``digest_wanted`` gets all other selectors and returns whether ``unix:sha256`` may matter beside them; if it
        does not, nothing is awaited after the call. A caller in a PID namespace that is not visible here has only the
        selectors of the kernel's credentials: user and group.

        Raises AccessError if the selectors can't be established, LocalIdentityError if no thread is left for lookups.
        """
        async with caller.attesting:
            if caller.why_unknown:
                raise AccessError(caller.why_unknown)
            credentials = caller.credentials
            if caller.process is None:
                facts = Facts(Owners(credentials.uid, credentials.gid, ()), None, None, None)
            else:
                facts = read_facts(caller.process, credentials, caller.started)
            try:
                return await self._selectors(facts, digest_wanted)
            finally:
                if facts.program is not None:
                    os.close(facts.program)

    async def _selectors(self, facts: Facts, digest_wanted: Callable[[Set[Selector]], bool]) -> frozenset[Selector]:
        container = container_selectors(facts.cgroup) if facts.cgroup is not None else frozenset()
        party = (facts.owners.uid, container)
        found, notes = await self._threads.run(party, _Lookup(facts))
        selectors = frozenset(one for one in found | container if one.type in self._kinds)
        if facts.program is not None and "unix" in self._kinds and digest_wanted(selectors):
            try:
                digest = await self._digests.digest(facts.program, party)
            except (UnhashedError, OSError) as error:
                self._log_once(logging.WARNING, facts.owners.uid, f"omitting unix:sha256: {error}")
            else:
                selectors |= {Selector("unix", f"{DIGEST}:{digest}")}
        for note in notes:
            self._log_once(logging.INFO, facts.owners.uid, note)
        return selectors

    def _log_once(self, level: int, uid: int, note: str) -> None:
        """Log a note once for each user: a caller may call again and again."""
        text = f"caller with uid {uid}: {note}"
        if text not in self._logged:
            log.log(level, "%s", text)
        keep_newest(self._logged, text, None, _MOST_LOGGED)


class _Lookup:
    """Work for FairThreads: the selectors from names and paths, and notes on omitted ones.

    Both may block: names may be looked up over a network, and a path may lead to a file system that does not respond.
    """

    def __init__(self, facts: Facts) -> None:
        self._owners = facts.owners
        self._path = facts.path
        self._program = os.dup(facts.program) if facts.program is not None else None
        self._found: set[Selector] = set()
        self._notes: list[str] = []

    def step(self) -> tuple[set[Selector], list[str]]:
        self._add_ids("uid", [self._owners.uid], "user", _user)
        self._add_ids("gid", [self._owners.gid], "group", _group)
        self._add_ids("supplementary_gid", self._owners.groups, "supplementary_group", _group)
        if self._path is not None and self._program is not None:
            if self._leads_to_program(self._path, self._program):
                self._add("path", self._path)
            else:
                reason = f"{printable(self._path)} is not the running executable in the agent's mount namespace"
                self._notes.append(f"omitting unix:path: {reason}")
        return self._found, self._notes

    def close(self) -> None:
        if self._program is not None:
            os.close(self._program)

    @staticmethod
    def _leads_to_program(path: bytes, program: int) -> bool:
        """Whether this path leads to the running program in the agent's mount namespace, too.

        The path is from the caller's mount namespace, and any user may create one in which any file has any path. A
        program whose file was replaced has no path either, until it is restarted.
        """
        try:
            return os.path.samestat(os.stat(path), os.fstat(program))
        except OSError:
            return False

    def _add_ids(self, number: str, ids: Iterable[int], name: str, named: Callable[[int], str | None]) -> None:
        for one in ids:
            self._found.add(Selector("unix", f"{number}:{one}"))
            said = named(one)
            if said:
                self._add(name, os.fsencode(said))

    def _add(self, kind: str, name: bytes) -> None:
        text = text_of(name)
        if text is None:
            self._notes.append(f"omitting unix:{kind}: {printable(name)}: wanted UTF-8 without control characters")
            return
        try:
            self._found.add(Selector("unix", f"{kind}:{text}"))
        except RequestError as error:
            self._notes.append(f"omitting unix:{kind}: {error}")


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
