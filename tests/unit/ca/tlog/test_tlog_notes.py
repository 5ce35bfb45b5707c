"""Signed notes, checkpoints, proof files, and what a witness decides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from meshtls.ca.tlog.checkpoint import Checkpoint, opened_checkpoint
from meshtls.ca.tlog.note import KeyType, Note, NoteKey, NoteSignature, cosign, sign_note
from meshtls.ca.tlog.proof_file import ProofFile
from meshtls.ca.tlog.witness import Refused, Submission, judge
from meshtls.errors import LogProofError, RequestError
from tests.unit.ca.tlog.trees import consistency, entries, inclusion, root_of

ORIGIN = "example.org/log"
SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = NoteKey.of(ORIGIN, SIGNER)
LOG = entries(300)
#: From golang.org/x/mod/sumdb/note's documentation: a key that Go wrote.
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def checkpoint(size: int, signer: Ed25519PrivateKey = SIGNER, origin: str = ORIGIN, log: list[bytes] = LOG) -> bytes:
    return str(sign_note(Checkpoint(origin, size, root_of(log[:size])).text, origin, signer)).encode()


def test_note_that_go_signed_is_opened() -> None:
    key = NoteKey.parse(GO_KEY)
    assert str(key) == GO_KEY
    assert Note.parse(GO_NOTE.encode()).signers([key]) == [key]
    assert str(Note.parse(GO_NOTE.encode())) == GO_NOTE
    with pytest.raises(LogProofError, match="the signature of PeterNeumann"):
        Note.parse(GO_NOTE.replace("think", "thinl").encode()).signers([key])


def test_checkpoint_is_opened_with_the_key_of_its_log_only() -> None:
    opened, _ = opened_checkpoint(checkpoint(7), [KEY])
    assert opened == Checkpoint(ORIGIN, 7, root_of(LOG[:7]))
    for data, keys in (
        (checkpoint(7, OTHER), [KEY]),
        (checkpoint(7), []),
        (checkpoint(7), [NoteKey.of("example.org/other", SIGNER)]),
    ):
        with pytest.raises(LogProofError, match="^checkpoint of 'example.org/log': not signed by a key of this log"):
            opened_checkpoint(data, keys)


def test_cosignatures_are_counted() -> None:
    note = Note.parse(checkpoint(7))
    first, second = (
        NoteKey.of(name, signer, KeyType.COSIGNATURE) for name, signer in (("w/1", OTHER), ("w/2", SIGNER))
    )
    signed = str(note.with_signatures([cosign(note.text, "w/1", OTHER, 1_700_000_000)])).encode()
    opened_checkpoint(signed, [KEY], [first])
    with pytest.raises(
        LogProofError, match=r"^checkpoint of example.org/log: wanted 2 cosignatures, got 1; missing: w/2$"
    ):
        opened_checkpoint(signed, [KEY], [first, second])
    [line] = [one for one in Note.parse(signed).signatures if one.name == "w/1"]
    later = NoteSignature(line.name, line.key_id, (1_700_000_001).to_bytes(8, "big") + line.data[8:])
    with pytest.raises(LogProofError, match="the signature of w/1"):
        opened_checkpoint(str(note.with_signatures([later])).encode(), [KEY], [first])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        f"{ORIGIN}+{KEY.id.hex()}+AAAA",
        str(KEY).replace(KEY.id.hex(), "00000000"),
        str(KEY).replace(ORIGIN, "a b"),
        str(KEY) + "=",
    ],
)
def test_key_in_another_form_is_refused(text: str) -> None:
    assert NoteKey.parse(str(KEY)) == KEY
    with pytest.raises(RequestError):
        NoteKey.parse(text)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data.replace(b"\n\n", b"\n"),
        lambda data: data.replace("\u2014".encode(), b"-"),
        lambda data: data + b"\x00",
        lambda data: data + b"\xff",
        lambda data: data.replace(b"\n7\n", b"\n07\n"),
        lambda data: data.replace(b"\n7\n", b"\n-7\n"),
        lambda data: data.replace(b"\n7\n", b"\n9223372036854775808\n"),
        lambda data: data + data.rpartition(b"\n\n")[2] * 64,
        lambda data: b"x" * 70_000 + data,
    ],
)
def test_malformed_checkpoint_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(RequestError):
        opened_checkpoint(spoil(checkpoint(7)), [KEY])


def proof_file(index: int = 5, size: int = 300) -> ProofFile:
    return ProofFile(index, tuple(inclusion(LOG[:size], index)), checkpoint(size), LOG[index])


def test_proof_file_proves_its_entry_offline() -> None:
    read = ProofFile.parse(bytes(proof_file()))
    assert read == proof_file()
    assert read.verify([KEY]).size == 300
    assert ProofFile.parse(bytes(proof_file(0, 1))).verify([KEY]).size == 1
    for wrong in (replace(read, extra=LOG[6]), replace(read, index=6), replace(read, extra=b"")):
        with pytest.raises(LogProofError):
            wrong.verify([KEY])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"tlog-proof@v1", b"tlog-proof@v2"),
        (b"index 5", b"index 05"),
        (b"index 5", b"at 5"),
        (b"\n\n", b"\n"),
        (b"=\n", b"\n"),
    ],
)
def test_malformed_proof_file_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(RequestError, match="^wanted a file that begins with c2sp.org/tlog-proof@v1"):
        ProofFile.parse(bytes(proof_file()).replace(old, new))


def submission(size: int, old: int = 0, **changed: object) -> Submission:
    proof = consistency(LOG[:size], old) if old <= size else []
    return replace(Submission(old, tuple(proof), checkpoint(size)), **changed)  # type: ignore[arg-type]


LAST = {ORIGIN: Checkpoint(ORIGIN, 100, root_of(LOG[:100]))}
FORKED = checkpoint(200, log=[b"forked", *LOG[1:]])


@pytest.mark.parametrize(
    ("asked", "last", "answer"),
    [
        (submission(100), {}, None),
        (submission(200, 100), LAST, None),
        (submission(100, 100), LAST, None),
        (submission(200), LAST, Refused(409, "100")),
        (submission(200, 150), LAST, Refused(409, "100")),
        (submission(90, 90), LAST, Refused(409, "100")),
        (submission(90, 100), LAST, Refused(400, "old size 100 is larger than the checkpoint's 90")),
        (submission(200, 100, proof=()), LAST, 422),
        (submission(200, 100, note=FORKED), LAST, 422),
        (submission(100, 100, note=checkpoint(100, log=[b"forked", *LOG[1:]])), LAST, Refused(409, "100")),
        (submission(200, 100, note=checkpoint(200, OTHER)), LAST, 403),
        (submission(200, 100, note=checkpoint(200, origin="example.org/else")), LAST, 404),
        (submission(200, 100, note=b"no note"), LAST, 400),
    ],
)
def test_witness_cosigns_only_what_continues_its_last_checkpoint(
    asked: Submission, last: dict[str, Checkpoint], answer: Refused | int | None
) -> None:
    judged = judge(Submission.parse(bytes(asked)), {ORIGIN: [KEY]}, last)
    if answer is None:
        assert not isinstance(judged, Refused)
        assert judged[0] == Checkpoint.parse(Note.parse(asked.note).text)
    elif isinstance(answer, int):
        assert isinstance(judged, Refused)
        assert judged.status == answer
    else:
        assert judged == answer


@pytest.mark.parametrize("body", [b"", b"old 0", b"new 0\n\nx", b"old 01\n\nx", b"old 0\nxyz\n\nx", b"old 0\n\n"])
def test_malformed_submission_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError, match="^add-checkpoint: "):
        Submission.parse(body)


@given(
    st.binary(max_size=300) | st.sampled_from([checkpoint(7), bytes(proof_file()), bytes(submission(9, 3))]), st.data()
)
def test_hostile_bytes_raise_nothing_but_request_error(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data)))
    spoilt = data[:at] + draw.draw(st.binary(max_size=3)) + data[at + draw.draw(st.integers(0, 3)) :]
    for parse in (Note.parse, ProofFile.parse, Submission.parse, lambda one: NoteKey.parse(one.decode("latin-1"))):
        with contextlib.suppress(RequestError):
            parse(spoilt)
