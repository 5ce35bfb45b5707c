"""What lint finds. Pure."""

from __future__ import annotations

from enum import Enum

import msgspec

from meshtls.config.document import Place

__all__ = ["CODES", "Finding", "Severity"]

#: What each code of a finding means.
CODES = {
    "allows-any-caller": "An ALLOW rule without a source: its operations are allowed to every caller.",
    "allows-everybody": "An empty ALLOW rule: everything is allowed to every caller.",
    "any-trust-domain": "Namespaces or service accounts also match those of a federated trust domain.",
    "deny-shadows-allow": "An ALLOW rule of which a DENY rule matches everything.",
    "dry-run-unreadable": "A dry run that is neither true nor false: the policy is in force.",
    "dry-run-without-effect": "A dry run of a document that has none: it is in force.",
    "host-passed-by": "A host that is denied or excluded, but not with a port or a last dot.",
    "http-fields-on-tcp": "A DENY or AUDIT rule with fields of HTTP: where no HTTP is read they are dropped.",
    "http-rule-on-tcp": "An ALLOW rule with fields of HTTP allows nothing where no HTTP is read; one of CUSTOM denies.",
    "never-matches": "A source, an operation or a condition that contradicts itself or another.",
    "not-all-compared": "There are too many rules to compare all of them.",
    "not-strict": "A workload's PeerAuthentication takes plaintext.",
    "plaintext-matches": "An ALLOW rule with only negative identities: a plaintext peer has none, and is allowed.",
    "port-level-not-in-force": "`portLevelMtls` of a policy that is not in force.",
    "root-selector": "A PeerAuthentication with a selector in the root namespace: it is ignored.",
    "selects-nothing": "A policy that is for none of the known workloads.",
    "several-at-one-level": "Several PeerAuthentications of one namespace or workload: only the oldest is in force.",
    "strict-missing": "Namespaces, or a mesh, without STRICT: plaintext is taken.",
    "target-refs-ignored": "A policy with targetRefs: no sidecar enforces it.",
    "value-never-matches": "A value that no request has when it is judged, or an identity that no peer has.",
}


class Severity(Enum):
    """ERROR: the document does not do what it says. WARNING: it probably is not meant so. INFO: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Finding(msgspec.Struct, frozen=True):
    """Something suspicious in policies. ``code`` is stable, for programs. ``text`` says what is the case and what to
    do. No place: the whole set.
    """

    severity: Severity
    code: str
    place: Place | None
    text: str

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.severity.value} {self.code}: {self.text}"
