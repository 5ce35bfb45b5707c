"""Signs and serves the transparency log while the server runs, and has its checkpoints cosigned by witnesses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshtls.ca.tlog.checkpoint import Checkpoint, decimal
from meshtls.ca.tlog.note import NoteKey, NoteSignature, signature_lines
from meshtls.ca.tlog.witness import Submission
from meshtls.errors import LogProofError, MeshtlsError, NotFoundError, RequestError
from meshtls.logs import logger
from meshtls.observe.outage import Outage
from meshtls.rpc.small_http import Answer, Request, serve_http
from meshtls.server.log_resources import resource
from meshtls.server.transparency import TransparencyLog
from meshtls.serverapi.log_http import HttpFailureError, http_exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from meshtls.server.core import Core
    from meshtls.server.settings import WitnessConfig

__all__ = ["keep_published", "serving_log"]

#: Seconds between two checkpoints of a log that grows.
_INTERVAL = 1.0
_WITNESS_SECONDS = 5.0
#: Of readers over HTTP, out of the store's eight read connections; the others are left to administrators and agents.
_READS_AT_ONCE = 4
_YEAR = 365 * 24 * 3600

log = logger("meshtls.server")


@asynccontextmanager
async def serving_log(core: Core) -> AsyncIterator[int | None]:
    """Serve the log over HTTP while the body runs, if configured. Yields the port. Raises ConfigError."""
    listen = core.config.log_listen
    if listen is None:
        yield None
        return

    reading = asyncio.Semaphore(_READS_AT_ONCE)

    async def answer(request: Request) -> Answer:
        if request.method not in ("GET", "HEAD"):
            return Answer(405, b"wanted GET\n")
        try:
            async with reading:
                found = await resource(core, request.path.removeprefix("/"))
        except (NotFoundError, RequestError):
            return Answer(404, b"wanted /checkpoint, /keys, /lookup/SERIAL or a tile of the newest checkpoint's tree\n")
        max_age = _YEAR if found.immutable else None
        if found.binary:
            return Answer(200, found.content, "application/octet-stream", max_age)
        return Answer(200, found.content, max_age=max_age)

    async with serve_http("transparency log", listen.host, listen.port, answer) as port:
        log.info("the transparency log is served on http://%s:%d", listen.host, port)
        yield port


async def keep_published(core: Core) -> None:
    """Sign the log once a second if it has grown, and have it cosigned, until its tree is refused."""
    unsigned, witnesses = Outage(log, core.clock), dict[str, _Cosigning]()
    async with asyncio.TaskGroup() as submitting:
        while True:
            await core.clock.sleep(_INTERVAL)
            if core.log.has_grown or unsigned.failures:
                try:
                    await core.log.publish()
                    unsigned.ended("the transparency log is signed again")
                except MeshtlsError as error:
                    if core.log.has_refused:
                        return  # logged where it was found; nothing is appended any more, so there is nothing to sign
                    text = f"the transparency log can't be signed now, retrying: {error}"
                    unsigned.failed(str(error), text)
            for one in core.config.log_witnesses:
                cosigning = witnesses.setdefault(one.url, _Cosigning(Outage(log, core.clock)))
                # Beside the signing: a witness may take seconds to answer.
                if not cosigning.is_running and cosigning.size != core.log.published.size:
                    cosigning.is_running = True
                    submitting.create_task(_cosigned(core.log, one, cosigning))


@dataclass(slots=True)
class _Cosigning:
    """``size`` is that of the checkpoint which the witness has cosigned last."""

    outage: Outage
    size: int = 0
    is_running: bool = False


async def _cosigned(published: TransparencyLog, witness: WitnessConfig, cosigning: _Cosigning) -> None:
    """Have the newest checkpoint cosigned."""
    try:
        cosigning.size = await _submit(published, witness, cosigning.size)
    except (HttpFailureError, MeshtlsError, TimeoutError) as error:
        reason = str(error) or f"no answer within {_WITNESS_SECONDS:.0f} s"
        text = f"witness {witness.url} has not cosigned the transparency log: {reason}"
        cosigning.outage.failed(reason, text)
    else:
        cosigning.outage.ended(f"witness {witness.url} cosigns the transparency log again")
    finally:
        cosigning.is_running = False


async def _submit(published: TransparencyLog, witness: WitnessConfig, old: int) -> int:
    """Submit the newest checkpoint to a witness that has cosigned one of ``old`` leaves; returns its size."""
    key = NoteKey.parse(witness.key)
    for _ in range(2):
        proof, note = await published.consistency(old)
        body = bytes(Submission(old, tuple(proof), str(note).encode()))
        async with asyncio.timeout(_WITNESS_SECONDS):
            answer = await http_exchange("POST", f"{witness.url}/add-checkpoint", body)
        if answer.status == 409:
            # What it says is for this submission only: it need not be true.
            with contextlib.suppress(ValueError):
                old = decimal(answer.body.strip().decode())
                continue
        if answer.status != 200:
            raise HttpFailureError(
                f"it answered {answer.status}: {answer.body[:200].decode('utf-8', 'replace').strip()}"
            )
        signatures: Sequence[NoteSignature] = signature_lines(answer.body.decode("utf-8", "replace"))
        if key not in note.with_signatures(signatures).signers([key]):
            raise LogProofError(f"wanted a cosignature of {key}, got others")
        wanted = [one for one in signatures if key.is_of(one)]
        await published.add_cosignatures(note, wanted)
        return Checkpoint.parse(note.text).size
    raise LogProofError(f"it has cosigned {old} leaves already, which is not a tree of this log")
