"""The options by which the verbs of ``meshtls log`` find a log and the keys that they trust."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click
from cryptography import x509

from meshtls.ca.tlog.leaf import Leaf
from meshtls.ca.tlog.note import NoteKey
from meshtls.ca.tlog.proof_file import ProofFile
from meshtls.cli.access import ServerAccess, server_options
from meshtls.cli.log_keys import LOG_KEY, URL, WITNESS_KEY
from meshtls.cli.output import Record
from meshtls.cli.records import moment_of
from meshtls.errors import LogProofError
from meshtls.serverapi.log_reader import AdminLog, HttpLog, LogReader, LogSource
from meshtls.svid.x509 import fingerprint_of, format_serial

__all__ = [
    "PATIENCE",
    "LogAccess",
    "check_proof_of",
    "leaf_line",
    "leaf_record",
    "log_options",
    "proof_of",
]

T = TypeVar("T")
#: Seconds that a proof waits for the next checkpoint, and its cosignatures.
PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class LogAccess:
    """A log at ``url``, or of the server at ``server``; without ``keys`` those that the server names are trusted."""

    server: ServerAccess
    url: str | None
    keys: tuple[NoteKey, ...]
    witnesses: tuple[NoteKey, ...]

    def ask(self, question: Callable[[LogReader], Awaitable[T]]) -> T:
        """Read the log. Raises what the reader raises."""
        if self.url is not None:
            return asyncio.run(self._asked(HttpLog(self.url), question))
        return self.server.ask(lambda api: self._asked(AdminLog(api), question))

    def trusted_keys(self) -> Sequence[NoteKey]:
        """The keys of the options, or else those that the server names."""
        return self.keys or self.server.ask(lambda api: _keys(AdminLog(api)))

    async def _asked(self, source: LogSource, question: Callable[[LogReader], Awaitable[T]]) -> T:
        return await question(LogReader(source, self.keys or await _keys(source), self.witnesses))


async def _keys(source: LogSource) -> list[NoteKey]:
    text = (await source.get("keys")).decode("utf-8", "replace")
    return [NoteKey.parse(line) for line in text.split("\n") if line]


def log_options(command: Callable[..., T]) -> Callable[..., T]:
    """The options of every verb that reads a log; it is passed ``log`` and ``out``."""

    @click.option("--log", "url", type=URL, help="Read the log over HTTP, below this URL, instead of from the server.")
    @click.option("--key", "keys", type=LOG_KEY, multiple=True, help="A key of the log. With --log one is required.")
    @click.option("--witness", "witnesses", type=WITNESS_KEY, multiple=True, help="A witness that must have cosigned.")
    @server_options
    @functools.wraps(command)
    def call(
        access: ServerAccess,
        url: str | None,
        keys: tuple[NoteKey, ...],
        witnesses: tuple[NoteKey, ...],
        **rest: Any,
    ) -> T:
        if url is not None and not keys:
            raise click.UsageError(
                "wanted --key together with --log: whoever serves a log must not choose the key that it is verified"
                " with; `meshtls log keys` prints it on the server"
            )
        return command(log=LogAccess(access, url, keys, witnesses), **rest)

    return call


def leaf_record(index: int, entry: bytes) -> Record:
    """The fields of a leaf, for programs. Raises RequestError for an entry that is not ours."""
    leaf = Leaf.parse(entry)
    return {
        "index": index,
        "kind": leaf.kind.value,
        "spiffe_id": leaf.spiffe_id,
        "serial": leaf.serial,
        "not_after": moment_of(leaf.not_after) if leaf.not_after else None,
        "agent_id": leaf.agent_id,
        "entry_id": leaf.entry_id,
        "server_id": leaf.server_id,
        "issuer": leaf.issuer,
        "digest": leaf.digest,
    }


def leaf_line(index: int, entry: bytes) -> str:
    """The same in one line."""
    leaf = Leaf.parse(entry)
    until = f" until {moment_of(leaf.not_after)}" if leaf.not_after else ""
    asked = f", requested by {leaf.agent_id}" if leaf.agent_id else ""
    return f"{index}  {leaf.kind.value}  {leaf.spiffe_id}  {leaf.serial}{until}{asked}"


async def proof_of(reader: LogReader, certificate: x509.Certificate) -> ProofFile:
    """The verified proof that this SVID is in the log. Raises what the reader raises."""
    proof = await reader.prove(await reader.index_of(format_serial(certificate)), PATIENCE)
    check_proof_of(proof, certificate)
    return proof


def check_proof_of(proof: ProofFile, certificate: x509.Certificate) -> None:
    """Raises LogProofError where the proof is that of another leaf."""
    leaf = Leaf.parse(proof.extra)
    if leaf.digest != fingerprint_of(certificate):
        raise LogProofError(
            f"wanted the proof of certificate {format_serial(certificate)}, got that of {leaf.kind.value} {leaf.serial}"
        )
