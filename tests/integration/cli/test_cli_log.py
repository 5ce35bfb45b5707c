"""``meshtls log`` and ``meshtls audit`` against real processes: a server, its log over HTTP, and a witness."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshtls.ca.tlog.checkpoint import Checkpoint
from meshtls.ca.tlog.hashing import EMPTY_ROOT
from meshtls.ca.tlog.note import Note, NoteKey, sign_note
from meshtls.ca.tlog.tiles import Tile
from meshtls.ca.tlog.witness import Submission
from meshtls.http_client import HttpResponse
from meshtls.serverapi.log_http import http_exchange
from tests.integration.cli.identity_site import Told, tell
from tests.integration.cli.processes import Process, started
from tests.support.agent import short_directory
from tests.support.go_tlog import GoLogReader, b64
from tests.support.ports import free_ports

WEB = "spiffe://example.org/web"
MINT = ("x509", "mint", "--spiffe-id", WEB)


class Site:
    """A server whose log is served over HTTP and cosigned by a witness."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log_port, self.witness_port = free_ports(2)
        self.url = f"http://127.0.0.1:{self.log_port}"

    @property
    def config(self) -> Path:
        return self.directory / "server.yaml"

    def write_config(self, *more: str) -> None:
        lines = [
            "trust_domain: example.org",
            "bind_port: 0",
            f"data_dir: {self.directory / 'data'}",
            "log_level: ERROR",
            "transparency_log:",
            f"  listen: 127.0.0.1:{self.log_port}",
            *more,
        ]
        self.config.write_text("\n".join(lines))

    @contextmanager
    def server(self) -> Iterator[Process]:
        with started("server", "run", "--config", self.config, "--output", "json") as process:
            process.line('"serving"', "stdout")
            yield process
            process.popen.send_signal(signal.SIGKILL)

    @contextmanager
    def witness(self, key: str) -> Iterator[str]:
        """A witness of the log with this key. Yields its own."""
        options = ("--name", "witness.test", "--data-dir", self.directory / "witness", "--key", key)
        with started(
            "log", "witness", *options, "--listen", f"127.0.0.1:{self.witness_port}", "--output", "json"
        ) as one:
            yield json.loads(one.line('"serving"', "stdout"))["key"]
            one.popen.send_signal(signal.SIGKILL)

    def tell(self, *arguments: str | Path) -> Told:
        return tell(*arguments, "--socket", self.directory / "data" / "admin.sock")

    def json(self, *arguments: str | Path) -> Any:
        told = self.tell(*arguments, "--output", "json")
        assert told.code == 0, told
        return told.json

    def until_signed(self, size: int) -> None:
        """Wait for a checkpoint of that many leaves."""
        while self.json("log", "checkpoint")["size"] != size:
            continue  # each look is a call that waits for its response

    @property
    def key(self) -> str:
        [key] = self.json("log", "keys")["keys"]
        return str(key)


@pytest.fixture
def site() -> Iterator[Site]:
    with short_directory() as directory:
        made = Site(directory)
        made.write_config()
        yield made


def asked(method: str, url: str, body: bytes = b"") -> HttpResponse:
    return asyncio.run(http_exchange(method, url, body))


def test_svid_is_proven_to_be_in_the_log_and_no_other_certificate_is(site: Site, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with site.server():
        made = site.json(*MINT, "--write", one, "--proof")
        site.json(*MINT, "--write", two)
        key = site.key
        proof = one / "svid.tlog-proof"
        assert str(proof) in made["files"]
        over_http = ("log", "prove", "--certificate", two / "svid.pem", "--log", site.url, "--key", key)
        assert tell(*over_http, "--write", two / "svid.tlog-proof").code == 0
        assert site.json("log", "prove", "--serial", made["serial"])["index"] == 4
    # The server is gone: the proof is verified offline.
    verify = ("log", "verify", proof, "--key", key)
    told = tell(*verify, "--certificate", one / "svid.pem")
    origin = key.partition("+")[0]
    line = f"4  x509-svid  {WEB}  {made['serial']} until {made['not_after']}"
    assert told.out == f"{proof}: in {origin}, of 5 leaves: {line}\n"
    other = tell(*verify, "--certificate", two / "svid.pem")
    assert other.code == 1
    assert re.fullmatch(
        rf"meshtls: wanted the proof of certificate [0-9a-f]+, got that of x509-svid {made['serial']}\n", other.err
    )
    stranger = NoteKey.of(origin, Ed25519PrivateKey.generate())
    refused = tell("log", "verify", proof, "--key", str(stranger))
    assert refused.code == 1
    assert refused.err == (f"meshtls: checkpoint of '{origin}': not signed by a key of this log; known: {stranger}\n")


def test_whole_log_is_verified_and_its_tail_printed(site: Site) -> None:
    with site.server():
        serials = [site.json(*MINT)["serial"] for _ in range(3)]
        key = site.key
        http = ("--log", site.url, "--key", key)
        site.until_signed(7)
        checkpoint = tell("log", "checkpoint", *http, "--output", "json").json
        assert (checkpoint["size"], checkpoint["signatures"]) == (7, [checkpoint["origin"]])
        whole = tell("log", "verify", *http)
        assert whole.out == f"{checkpoint['origin']}: all 7 leaves lead to the root {checkpoint['root']}\n"
        tail = tell("log", "tail", "-n", "2", *http, "--output", "json").out.splitlines()
        assert [json.loads(line)["serial"] for line in tail] == serials[1:]
        needs = tell("log", "checkpoint", "--log", site.url)
        assert needs.code == 2
        assert "wanted --key together with --log" in needs.err


def test_tail_follows(site: Site) -> None:
    with site.server():
        site.json(*MINT)
        follow = ("log", "tail", "-n", "9", "--follow", "--interval", "200ms", "--log", site.url, "--key", site.key)
        with started(*follow, "--output", "json") as following:
            serials = [site.json(*MINT)["serial"] for _ in range(2)]
            # It begins with the newest leaf, since it may have been started after these.
            told: set[str] = set()
            while not set(serials) <= told:
                told.add(json.loads(following.line('"x509-svid"', "stdout"))["serial"])
            following.popen.send_signal(signal.SIGKILL)


def test_monitor_tells_of_an_svid_that_its_owner_never_asked_for(site: Site, tmp_path: Path) -> None:
    mine, state = tmp_path / "mine", tmp_path / "state"
    watch = ("log", "monitor", "--spiffe-id", WEB, "--known", mine, "--state", state, "--once")
    with site.server():
        known = site.json(*MINT, "--write", mine, "--proof")
        assert site.tell(*watch) == Told(0, "", "")
        # Somebody else has an SVID of this identity issued.
        stolen = site.json(*MINT)
        site.json("x509", "mint", "--spiffe-id", "spiffe://example.org/other")
        site.until_signed(7)
        told = site.tell(*watch)
        why = "not among the known ones; requested by an administrator, without an entry"
        line = f"5  x509-svid  {WEB}  {stolen['serial']} until {stolen['not_after']}"
        assert told == Told(1, f"NOT ASKED FOR: {line}: {why}\n", "")
        assert site.tell(*watch) == Told(0, "", "")
        every = site.tell("log", "monitor", "--spiffe-id", WEB, "--once", "--output", "json")
        assert [json.loads(line)["serial"] for line in every.out.splitlines()] == [known["serial"], stolen["serial"]]


def test_monitor_notices_a_log_that_was_rewritten(site: Site, tmp_path: Path) -> None:
    state = tmp_path / "state"
    watch = ("log", "monitor", "--spiffe-id", WEB, "--state", state, "--once")
    store = site.directory / "data"
    with site.server():
        pass
    shutil.copytree(store, tmp_path / "old", ignore=shutil.ignore_patterns("*.sock"))
    with site.server():
        site.json(*MINT, "--write", tmp_path / "svid", "--proof")
        assert site.tell(*watch).code == 1
    shutil.rmtree(store)
    # The whole data directory was restored, with its guard: only those outside can tell.
    shutil.copytree(tmp_path / "old", store)
    with site.server():
        site.json(*MINT, "--write", tmp_path / "svid", "--proof")
        site.json(*MINT, "--write", tmp_path / "svid", "--proof")
        told = site.tell(*watch)
    assert told.code == 1
    assert "the log was rewritten or has forked" in told.err


def test_log_over_http_is_read_only_and_go_reads_it(site: Site, tmp_path: Path) -> None:
    go = GoLogReader(tmp_path)
    with site.server():
        made = site.json(*MINT, "--write", tmp_path / "svid", "--proof")
        checkpoint = asked("GET", f"{site.url}/checkpoint")
        assert checkpoint.status == 200
        said = go.ask([site.key], Log=site.url, Indexes=[0, 4], Notes=[checkpoint.body.decode()])
        opened = Checkpoint.parse(Note.parse(checkpoint.body).text)
        assert (said["Size"], said["Root"], said["Failures"]) == (opened.size, b64(opened.root), None)
        proof = (tmp_path / "svid" / "svid.tlog-proof").read_text()
        head, _, note = proof.partition("\n\n")
        _, extra, index, *hashes = head.split("\n")
        inclusion = {
            "Index": int(index.split(" ")[1]),
            "Entry": extra.split(" ")[1],
            "Proof": hashes,
            "Size": opened.size,
            "Root": note.split("\n")[2],
        }
        assert go.ask([site.key], Notes=[note], Inclusion=[inclusion])["Failures"] is None
        assert json.loads(base64.b64decode(extra.split(" ")[1]))["serial"] == made["serial"]
        for method, path, status in (
            ("POST", "checkpoint", 405),
            ("DELETE", "tile/0/000.p/1", 405),
            ("GET", "tile/0/000.p/1", 200),
            ("GET", "tile/entries/000.p/5", 200),
            ("GET", "tile/0/000.p/200", 404),
            ("GET", "tile/0/001", 404),
            ("GET", "tile/0/../../etc/passwd", 404),
            ("GET", f"lookup/{made['serial']}", 200),
            ("GET", "lookup/00", 404),
            ("GET", "", 404),
        ):
            assert asked(method, f"{site.url}/{path}").status == status, (method, path)


def test_witness_cosigns_and_a_proof_can_require_it(site: Site, tmp_path: Path) -> None:
    with site.server():
        log_key = site.key
    with site.witness(log_key) as witness:
        pass
    settings = f"  witnesses: [{{url: 'http://127.0.0.1:{site.witness_port}', key: '{witness}'}}]"
    site.write_config(settings)
    proof = tmp_path / "svid" / "svid.tlog-proof"
    with site.witness(log_key) as again, site.server():
        assert again == witness
        site.json(*MINT, "--write", tmp_path / "svid")
        prove = ("log", "prove", "--certificate", tmp_path / "svid" / "svid.pem", "--witness", witness)
        assert site.tell(*prove, "--write", proof).code == 0
        size = site.json("log", "checkpoint")["size"]
    assert tell("log", "verify", proof, "--key", log_key, "--witness", witness).code == 0
    # Killed and started again, it still refuses a tree that does not continue what it has cosigned.
    with site.witness(log_key), site.server():
        origin = log_key.partition("+")[0]
        note = str(sign_note(Checkpoint(origin, 0, EMPTY_ROOT).text, origin, Ed25519PrivateKey.generate()))
        cosign = f"http://127.0.0.1:{site.witness_port}/add-checkpoint"
        forged = asked("POST", cosign, bytes(Submission(0, (), note.encode())))
        assert forged.status == 403
        signed = asked("GET", f"{site.url}/checkpoint").body
        late = asked("POST", cosign, bytes(Submission(0, (), signed)))
        assert late.status == 409
        assert int(late.body) >= size
        assert asked("GET", cosign).status == 405
        assert asked("POST", f"{cosign}s", b"x").status == 404


def test_restored_backup_is_refused_and_the_log_can_be_abandoned(site: Site, tmp_path: Path) -> None:
    data = site.directory / "data"
    store = "datastore.sqlite3"
    with site.server():
        pass
    shutil.copytree(data, tmp_path / "backup", ignore=shutil.ignore_patterns("*.sock"))
    with site.server():
        site.json(*MINT, "--write", tmp_path / "svid", "--proof")
    for file in data.glob(f"{store}*"):
        file.unlink()
    for file in (tmp_path / "backup").glob(f"{store}*"):
        shutil.copy(file, data)
    with started("server", "run", "--config", site.config) as process:
        assert "Nothing is issued, as its log would be a fork" in process.line("meshtls: transparency log")
        assert process.popen.wait(120) == 2
    plain = tell("log", "abandon", "--config", site.config)
    assert plain.code == 2
    assert "wanted --history-is-lost" in plain.err
    done = tell("log", "abandon", "--config", site.config, "--history-is-lost", "--output", "json").json
    with site.server():
        assert site.json("log", "checkpoint")["origin"] == done["origin"]
        leaves = map(json.loads, site.tell("log", "tail", "--output", "json").out.splitlines())
        [named] = [one for one in leaves if one["kind"] == "predecessor"]
        assert done["abandoned"].startswith(f"{named['spiffe_id']} with {named['serial']} leaves")


def test_audit_trail_is_shown_and_verified(site: Site) -> None:
    with site.server():
        made = site.json(*MINT)
        [record] = site.json("audit", "show", "--act", "mint X509-SVID", "--by", "uid 0", "--about", WEB)["audit"]
        assert (record["credential"], record["after"]["svids"][0]["serial"]) == ("the admin socket", made["serial"])
        [same] = site.json("audit", "show", "--about", made["serial"])["audit"]
        assert same == record
        told = site.tell("audit", "verify")
        head = f"{record['number']}:{record['hash']}"
        assert told.out == f"audit records 1 to {record['number']} form one chain\nhead {head}\n"
        site.json(*MINT)
        assert site.json("audit", "verify", "--head", head)["first"] == 1
        wrong = site.tell("audit", "verify", "--head", f"2:{record['hash']}")
        assert wrong.code == 1
        assert wrong.err == "meshtls: audit record 2: its hash is not the known one; the trail was rewritten\n"
        lines = site.tell("audit", "show", "--last", "1").out.splitlines()
        assert len(lines) == 1
        assert "mint X509-SVID spiffe://example.org/web  by uid 0 (the admin socket)" in lines[0]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            "DELETE FROM audit WHERE number > {last} - 1",
            "audit trail: it ends with record {before}, but the store says that {last} is the last one: {last} is"
            " missing",
        ),
        (
            "DELETE FROM audit WHERE number > {last} - 2",
            "audit trail: it ends with record {earlier}, but the store says that {last} is the last one: {before} to"
            " {last} are missing",
        ),
        (
            "DELETE FROM audit",
            "audit trail: it ends with record 0, but the store says that {last} is the last one: 1 to {last} are"
            " missing",
        ),
        (
            "UPDATE audit_state SET head = zeroblob(32)",
            "audit record {last}: its hash is not the one that the store has of it; the trail was rewritten",
        ),
    ],
)
def test_audit_trail_without_its_newest_records_is_detected(site: Site, edit: str, message: str) -> None:
    with site.server():
        site.json(*MINT)
        last = site.json("audit", "verify")["last"]
        numbers = {"last": last, "before": last - 1, "earlier": last - 2}
        with closing(sqlite3.connect(site.directory / "data" / "datastore.sqlite3", timeout=60)) as store, store:
            store.execute(edit.format(**numbers))
        told = site.tell("audit", "verify")
        assert (told.code, told.out, told.err) == (1, "", f"meshtls: {message.format(**numbers)}\n")


def test_tile_of_a_growing_log_stays_as_it_was(site: Site) -> None:
    with site.server():
        site.until_signed(4)
        first = asked("GET", f"{site.url}/{Tile(0, 0, 3).path}").body
        assert len(first) == 3 * 32
        for _ in range(3):
            site.json(*MINT)
        site.until_signed(7)
        assert asked("GET", f"{site.url}/{Tile(0, 0, 7).path}").body[: len(first)] == first
