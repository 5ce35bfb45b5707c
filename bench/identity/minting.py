"""The rate of leaves from CSRs, beside the rate of ``cryptography`` alone in the same seconds."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime, timedelta
from multiprocessing.synchronize import Barrier
from threading import BrokenBarrierError

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from bench.certificates import TRUST_DOMAIN
from bench.identity.figures import Figure, Progress, Scale, UnmeasuredError
from meshtls.ca.authority import Authority
from meshtls.clock import SystemClock
from meshtls.identity.request import new_key, request_for
from meshtls.spiffeid import SpiffeId

__all__ = ["measure_minting"]

_PART = "minting"
_PROCESSES = 2
_LIMIT_S = 60.0
_WEB = SpiffeId(TRUST_DOMAIN, "/bench/web")
# In one of several processes: the barrier at which they meet.
_others: list[Barrier] = []


def measure_minting(scale: Scale, progress: Progress) -> list[Figure]:
    """One core, then two processes."""
    requests = [request_for(new_key()) for _ in range(scale.mint_batch)]
    authority = Authority.create(TRUST_DOMAIN, SystemClock())
    alone = _floor(authority)
    rounds: list[tuple[float, ...]] = []
    for number in range(scale.mint_rounds):
        rounds.append(_rates(requests, alone, lambda csr: authority.issue(_WEB, csr)))
        progress(f"[{number + 1}/{scale.mint_rounds}] {rounds[-1][1]:,.0f} leaves/s, floor {rounds[-1][0]:,.0f}")
    floors, ours = zip(*rounds, strict=True)
    share = statistics.median(mine / floor for floor, mine in rounds)
    return [
        Figure(_PART, "leaves from CSRs, one core", statistics.median(ours), "1/s", "per second of CPU"),
        Figure(_PART, "cryptography's floor", statistics.median(floors), "1/s", "CSR load and check, build, sign"),
        Figure(_PART, "share of the floor", share, "", "median of the rounds"),
        *_several(scale, progress),
    ]


def _mint_for(seconds: float) -> tuple[int, float]:
    """The leaves of this process within ``seconds``, once all processes are ready, and its rate per second of CPU."""
    requests = [request_for(new_key()) for _ in range(50)]
    authority = Authority.create(TRUST_DOMAIN, SystemClock())
    _others[0].wait(_LIMIT_S)
    done, before, deadline = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        authority.issue(_WEB, requests[done % len(requests)])
        done += 1
    return done, done / (time.process_time() - before)


def _meet(others: Barrier) -> None:
    _others.append(others)


def _several(scale: Scale, progress: Progress) -> list[Figure]:
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(_PROCESSES)
    with ProcessPoolExecutor(_PROCESSES, context, _meet, (ready,)) as pool:
        running = [pool.submit(_mint_for, scale.mint_seconds) for _ in range(_PROCESSES)]
        try:
            results = [one.result(timeout=2 * _LIMIT_S) for one in running]
        except (BrokenBarrierError, BrokenProcessPool) as error:
            raise UnmeasuredError(f"wanted {_PROCESSES} processes to mint at once: {error!r}") from error
    together = sum(count for count, _ in results) / scale.mint_seconds
    progress(f"{_PROCESSES} processes: {' and '.join(f'{count:,}' for count, _ in results)} leaves")
    name = f"leaves from CSRs, {_PROCESSES} processes"
    return [
        Figure(_PART, f"{name}, each", statistics.mean(rate for _, rate in results), "1/s", "per second of its CPU"),
        Figure(_PART, f"{name}, together", together, "1/s", "per second of the wall clock"),
    ]


def _rates(requests: Sequence[bytes], *mints: Callable[[bytes], object]) -> tuple[float, ...]:
    """Leaves per second of CPU of each of these, in turns leaf by leaf, so that other load affects all alike."""
    spent = [0.0] * len(mints)
    for csr in requests:
        for place, mint in enumerate(mints):
            began = time.process_time()
            mint(csr)
            spent[place] += time.process_time() - began
    return tuple(len(requests) / seconds for seconds in spent)


def _floor(authority: Authority) -> Callable[[bytes], x509.Certificate]:
    """The minimum: a leaf by the same key with prepared names, times and extensions, unchecked."""
    issuer = authority.intermediate
    now = datetime.now(UTC)
    prebuilt = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "bench")]))
        .issuer_name(issuer.certificate.subject)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(_WEB))]), critical=False)
    )

    def mint(request: bytes) -> x509.Certificate:
        csr = x509.load_der_x509_csr(request)
        if not csr.is_signature_valid:
            raise UnmeasuredError("our own CSR did not pass")
        template = prebuilt.serial_number(x509.random_serial_number()).public_key(csr.public_key())
        return template.sign(issuer.private_key, hashes.SHA256())

    return mint
