"""The Workload API as this process sees it: its socket, the SVID, the bundle, the rotation.

Where there is no SVID, the reason begins with what ``meshtls_workload_api_failures_total`` counts it as.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.cli.check.finding import Checks, Claim, Finding, failed, passed, warning
from meshtls.cli.check.sockets import socket_claim, socket_problem
from meshtls.clock import Clock
from meshtls.config.keys import duration_text
from meshtls.errors import LocalIdentityError, NoBundleError, PeerError, ValidityError
from meshtls.observe.metrics.workload_api import IdentityFailure
from meshtls.observe.readiness import readiness_of
from meshtls.spiffeid import SpiffeId
from meshtls.svid.context import X509Context
from meshtls.svid.lifetime import BACKDATE
from meshtls.svid.trust import Trust
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import X509Svid, format_moment
from meshtls.workload.address import Address, UnixAddress
from meshtls.workload.client import WorkloadApiClient
from meshtls.workload.failures import expired_text, other_identity, reason_of

__all__ = ["Seen", "svid_findings", "workload_checks"]

_SECONDS = 5.0
_GIVES = Claim("the Workload API gives this process an X509-SVID", "the Workload API gives this process no X509-SVID")
_SEE_AGENT = "see the agent's log, and `meshtls agent healthcheck`"
_ADVICE = {
    IdentityFailure.NOT_READY: "`meshtls admin ready` of the agent says why",
    IdentityFailure.NO_IDENTITY: (
        "`meshtls explain` says which entries match this process, and what the near misses lack"
    ),
}
_USABLE = Claim("all that the Workload API sends can be used", "some of what the Workload API sends can't be used")
#: How far a clock may be off: half of what SVIDs are backdated.
MOST_SKEW = BACKDATE / 2
_CLOCK = "correct the clock of this machine: `timedatectl`, `chronyc tracking`"


class Seen:
    """What the checks of one group leave to later ones."""

    def __init__(self) -> None:
        self.context: X509Context | None = None


async def workload_checks(address: Address, wanted: SpiffeId | None, clock: Clock, seen: Seen) -> Checks:
    """``wanted``: the identity that has to be among those of this process; None for the default one."""
    if isinstance(address, UnixAddress):
        claim, problem = socket_claim(Path(address.path)), socket_problem(Path(address.path), "the agent")
        if problem is not None:
            reason = IdentityFailure.SOCKET_DENIED if problem.denied else IdentityFailure.UNREACHABLE
            yield failed(claim, _named(reason, problem.reason), problem.advice)
            return
        yield passed(claim)
    without_svid: set[str] = set()
    try:
        async with WorkloadApiClient(address, timeout=_SECONDS) as client:
            context = await client.fetch_x509_context(without_svid.update)
    except LocalIdentityError as error:
        reason = reason_of(error)
        yield failed(_GIVES, _named(reason, str(error)), _ADVICE.get(reason, _SEE_AGENT))
        return
    svids = [svid for svid in context.svids if wanted is None or svid.spiffe_id == wanted]
    if wanted is not None and not svids:
        what, advice = other_identity(wanted, (svid.spiffe_id for svid in context.svids), without_svid)
        broken = _GIVES._replace(broken=f"the Workload API gives this process no X509-SVID of {wanted}")
        yield failed(broken, _named(IdentityFailure.OTHER_IDENTITY, what), advice)
        return
    now = clock.now()
    current = [svid for svid in svids if now <= svid.not_after]
    if not current:
        expired = _named(IdentityFailure.EXPIRED, expired_text(svids, now))
        yield failed(_GIVES, expired, f"if our clock is wrong, {_CLOCK}; otherwise {_SEE_AGENT}")
        return
    seen.context = context
    yield passed(_GIVES, str(current[0].spiffe_id))
    for line in context.unusable:
        yield warning(_USABLE, line, "ask who runs the server")
    for finding in svid_findings(current[0], context, now):
        yield finding


def _named(failure: IdentityFailure, why: str) -> str:
    """As the log of a source has it."""
    return f"{failure.value}: {why}"


def svid_findings(svid: X509Svid, context: X509Context, now: datetime) -> list[Finding]:
    """Checks of an SVID of ours: that peers with the same bundle would accept it, its time, and its rotation."""
    found = []
    bundle = context.bundles.get(svid.spiffe_id.trust_domain)
    domain = svid.spiffe_id.trust_domain
    there = Claim(f"there is a trust bundle for {domain}", f"there is no trust bundle for {domain}")
    if bundle is None or not bundle.x509_authorities:
        missing = "none came with the SVID" if bundle is None else "it has no X.509 authority"
        return [failed(there, missing, "`meshtls bundle show` says what the server publishes; restart the agent")]
    roots = len(bundle.x509_authorities)
    found.append(passed(there, f"{roots} X.509 authorit{'y' if roots == 1 else 'ies'}"))
    verifies = Claim("our own chain verifies against it", "our own chain does not verify against it")
    chain = [one.public_bytes(Encoding.DER) for one in svid.chain]
    try:
        verify_peer(chain, Trust(1, context.bundles, context.revocations), now)
    except ValidityError as error:
        found.append(failed(verifies, str(error), f"if our clock is wrong, {_CLOCK}; otherwise see the agent's log"))
    except NoBundleError as error:
        found.append(failed(verifies, str(error), "restart the agent"))
    except PeerError as error:
        found.append(
            failed(verifies, str(error), "peers refuse this SVID: `meshtls x509 inspect` shows the chain; see the CA")
        )
    else:
        found.append(passed(verifies))
    return [*found, clock_finding(svid, now), rotation_finding(svid, now)]


def clock_finding(svid: X509Svid, now: datetime) -> Finding:
    """A CA backdates by ``BACKDATE``, so an SVID that seems to come from the future shows that our clock is slow."""
    claim = Claim("our clock is not behind that of the CA", "our clock is behind that of the CA")
    ahead = svid.not_before + BACKDATE - now
    if ahead > MOST_SKEW:
        reason = (
            f"the SVID was signed at {format_moment(svid.not_before + BACKDATE)} by the CA's clock;"
            f" ours says {format_moment(now)}"
        )
        return failed(claim, reason, _CLOCK)
    return passed(claim)


def rotation_finding(svid: X509Svid, now: datetime) -> Finding:
    """An SVID is renewed at half of its life, and is late after two thirds."""
    claim = Claim("the SVID is rotated in time", "the SVID was not rotated in time")
    state = readiness_of(svid, now)
    if not state.ready or state.text:
        return failed(
            claim, state.text, "see the agent's log for the reason: the server may be unreachable, or refuse to sign"
        )
    left = timedelta(seconds=int((svid.not_after - now).total_seconds()))
    life = timedelta(seconds=int((svid.not_after - svid.not_before - BACKDATE).total_seconds()))
    return passed(claim, f"{duration_text(left)} of {duration_text(life)} left")
