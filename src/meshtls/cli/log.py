"""``meshtls log``: read, verify and watch the transparency log of everything that was issued."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import click
from cryptography import x509

from meshtls.address import Address
from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.frontier import Frontier
from meshtls.ca.tlog.leaf import Leaf
from meshtls.ca.tlog.note import Note, NoteKey
from meshtls.ca.tlog.proof_file import LONGEST_PROOF_FILE, ProofFile
from meshtls.cli.log_access import PATIENCE, LogAccess, check_proof_of, leaf_line, leaf_record, log_options
from meshtls.cli.log_keys import LOG_KEY
from meshtls.cli.log_monitor import Monitor, known_serials
from meshtls.cli.options import ADDRESS, DURATION, SPIFFE_ID, config_option, log_to_stderr, output_option
from meshtls.cli.output import Output
from meshtls.cli.serving import run_until_stopped
from meshtls.cli.svid_files import publish
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.serverapi.log_reader import LogReader
from meshtls.spiffeid import SpiffeId
from meshtls.svid.x509 import format_serial

__all__ = ["log"]

_path = click.Path(path_type=Path, dir_okay=False)


@click.group()
def log() -> None:
    """The transparency log: everything that was issued, for everybody to verify."""


@log.command()
@log_options
def keys(log: LogAccess, out: Output) -> None:
    """Print the keys that sign the log: give them to those who verify it."""
    found = list(map(str, log.trusted_keys()))
    out.record({"keys": found}, "\n".join(found))


@log.command()
@log_options
def checkpoint(log: LogAccess, out: Output) -> None:
    """Fetch and verify the newest checkpoint, and print it as the signed note that it is."""
    found, note = log.ask(lambda reader: reader.checkpoint())
    names = [one.name for one in Note.parse(note).signatures]
    record = {"origin": found.origin, "size": found.size, "root": found.root.hex(), "signatures": names}
    out.record(record | {"note": note.decode()}, note.decode().rstrip("\n"))


@log.command()
@click.option("--serial", help="The SVID with this serial: of a token, the one on record.")
@click.option("--certificate", type=_path, help="The SVID in this PEM file.")
@click.option("--index", type=click.IntRange(min=0), help="The leaf with this index.")
@click.option("--write", type=_path, help="Write the proof to this file, by convention a .tlog-proof.")
@log_options
def prove(
    log: LogAccess, out: Output, serial: str | None, certificate: Path | None, index: int | None, write: Path | None
) -> None:
    """Prove that an SVID is in the log, by a file that anybody can verify offline."""
    if sum(one is not None for one in (serial, certificate, index)) != 1:
        raise click.UsageError("wanted one of --serial, --certificate and --index")
    leaf = _leaf_in(certificate) if certificate else None

    async def proven(reader: LogReader) -> ProofFile:
        place = index if index is not None else await reader.index_of(format_serial(leaf) if leaf else serial or "")
        return await reader.prove(place, PATIENCE)

    proof = log.ask(proven)
    if leaf is not None:
        check_proof_of(proof, leaf)
    text = bytes(proof).decode()
    record = dict(leaf_record(proof.index, proof.extra))
    if write is None:
        out.record(record | {"proof": text}, text.rstrip("\n"))
        return
    publish(write, bytes(proof), "the proof")
    out.record(record | {"file": str(write)}, f"{write}: proof of leaf {leaf_line(proof.index, proof.extra)}")


@log.command()
@click.argument("proof", type=_path, required=False)
@click.option("--certificate", type=_path, help="With PROOF: the SVID that it has to be the proof of.")
@log_options
def verify(log: LogAccess, out: Output, proof: Path | None, certificate: Path | None) -> None:
    """Verify a proof file, offline if --key is given. Without PROOF, recompute the whole log from its entries."""
    if proof is None:
        if certificate is not None:
            raise click.UsageError("wanted --certificate together with PROOF")
        found, nodes = log.ask(_recomputed)
        told = f"{found.origin}: all {found.size} leaves lead to the root {found.root.hex()}"
        out.record({"origin": found.origin, "size": found.size, "root": found.root.hex(), "nodes": nodes}, told)
        return
    read = ProofFile.parse(_content(proof))
    checkpoint = read.verify(log.trusted_keys(), log.witnesses)
    if certificate is not None:
        check_proof_of(read, _leaf_in(certificate))
    record = dict(leaf_record(read.index, read.extra)) | {"origin": checkpoint.origin, "size": checkpoint.size}
    line = leaf_line(read.index, read.extra)
    out.record(record, f"{proof}: in {checkpoint.origin}, of {checkpoint.size} leaves: {line}")


@log.command()
@click.option("--lines", "-n", type=click.IntRange(min=0), default=10, show_default=True, help="Leaves to begin with.")
@click.option("--follow", "-f", is_flag=True, help="Then print each new leaf.")
@click.option("--interval", type=DURATION, default="1s", show_default=True, help="Between two looks, with --follow.")
@log_options
def tail(log: LogAccess, out: Output, lines: int, follow: bool, interval: timedelta) -> None:
    """Print the newest leaves."""

    async def told(reader: LogReader) -> None:
        found, _ = await reader.checkpoint()
        tree = await reader.tree_at(max(0, found.size - lines), found.size)
        while True:
            shown = []
            async for part in reader.read(tree, found):
                shown += list(enumerate(part.entries, part.start))
                tree = part.tree
            for index, entry in shown:
                out.event(leaf_record(index, entry), leaf_line(index, entry))
            if not follow:
                return
            await asyncio.sleep(interval.total_seconds())
            found, _ = await reader.checkpoint()

    log.ask(told)


@log.command()
@click.option("--spiffe-id", type=SPIFFE_ID, required=True, help="The identity that you own.")
@click.option("--known", type=click.Path(path_type=Path), multiple=True, help="Your SVIDs: PEM files, or directories.")
@click.option("--agent", "agents", type=SPIFFE_ID, multiple=True, help="An agent that may request it.")
@click.option("--state", type=_path, help="Continue from this file, and keep it up to date.")
@click.option("--once", is_flag=True, help="End at the newest checkpoint; the exit code is 1 if anything was told.")
@click.option("--interval", type=DURATION, default="5s", show_default=True, help="Between two looks.")
@log_options
def monitor(
    log: LogAccess,
    out: Output,
    spiffe_id: SpiffeId,
    known: tuple[Path, ...],
    agents: tuple[SpiffeId, ...],
    state: Path | None,
    once: bool,
    interval: timedelta,
) -> int:
    """Tell of each SVID of an identity that its owner never asked for.

    An SVID is expected if it is among --known, or was requested by an --agent. Without both, each one is told of.
    """
    watching = Monitor(spiffe_id, agents, state)
    patient = not once

    async def watched(reader: LogReader) -> int:
        count = 0
        while True:
            found, _ = await reader.checkpoint()
            unexpected = await watching.look(reader, found, lambda: known_serials(known), patient=patient)
            for index, entry, why in unexpected:
                told = f"NOT ASKED FOR: {leaf_line(index, entry)}: {why}"
                out.event(dict(leaf_record(index, entry)) | {"why": why}, told)
            watching.save()
            count += len(unexpected)
            if once:
                return count
            await asyncio.sleep(interval.total_seconds())

    return 1 if log.ask(watched) else 0


@log.command()
@click.option("--name", required=True, help="The witness's name, such as witness.example.org.")
@click.option("--listen", type=ADDRESS, default="127.0.0.1:8086", show_default=True, help="Where to serve.")
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="Its own directory.")
@click.option("--key", "logs", type=LOG_KEY, multiple=True, required=True, help="A key of a log to witness.")
@output_option
def witness(out: Output, name: str, listen: Address, data_dir: Path, logs: tuple[NoteKey, ...]) -> None:
    """Cosign the checkpoints of logs, each only if it continues the one before. Runs until SIGTERM or SIGINT."""
    from meshtls.server.witness import Witness, running_witness

    log_to_stderr()

    async def serve() -> None:
        serving = Witness(name, data_dir, logs, SystemClock())
        try:
            async with running_witness(serving, listen.host, listen.port) as port:
                address = str(Address(listen.host, port))
                record = {"event": "serving", "address": address, "key": str(serving.key)}
                out.event(record, f"serving: witness on {address}, with the key {serving.key}")
                await asyncio.get_running_loop().create_future()
        finally:
            serving.close()

    asyncio.run(run_until_stopped(serve(), "witness"))


@log.command()
@config_option
@click.option("--history-is-lost", is_flag=True, help="Required: everybody who watches the log will see its end.")
@output_option
def abandon(config: Path, out: Output, history_is_lost: bool) -> None:
    """Give up a log whose data store was lost, and begin another. The server must not run.

    The new log has another origin and key name, and its next leaf names the checkpoint that it could not continue.
    """
    if not history_is_lost:
        raise click.UsageError(
            "wanted --history-is-lost: the server has signed a log that its data store does not continue. If a newer"
            " state of the data store exists anywhere, restore that instead"
        )
    from meshtls.server.abandon import abandon_log
    from meshtls.server.config import load_config

    done = asyncio.run(abandon_log(load_config(config)))
    record = {"abandoned": str(done.old or ""), "origin": done.new, "set_aside": str(done.aside or "")}
    out.record(record, f"{done.old or 'no log'} is abandoned; the log is now {done.new}. Tell those who watch it.")


async def _recomputed(reader: LogReader) -> tuple[Checkpoint, int]:
    """Every hash of the log, from its entries; and the number of those in tiles above level 0."""
    found, _ = await reader.checkpoint()
    nodes: dict[int, list[bytes]] = {}
    async for part in reader.read(Frontier(), found):
        for entry in part.entries:
            Leaf.parse(entry)
        for node in part.nodes:
            nodes.setdefault(node.level, []).append(node.hash)
    await reader.check_tiles(found.size, nodes)
    return found, sum(map(len, nodes.values()))


def _leaf_in(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, *PARSE_ERRORS) as error:
        raise ConfigError(f"{path}: wanted an SVID in PEM: {error}") from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LONGEST_PROOF_FILE + 1)
    except OSError as error:
        raise ConfigError(f"{path}: wanted a proof file to read: {error.strerror}") from error
