"""Certificate policies as far as they can invalidate a path (RFC 5280, section 6.1); the verifier requires none.

They matter only where a CA says that every path below it needs a policy (requireExplicitPolicy). Policy mappings are
not followed: a CA that marks them critical is refused by the rule on critical extensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cryptography import x509
from cryptography.x509.oid import CertificatePoliciesOID

from meshtls.svid.leaf_rules import extension_of
from meshtls.svid.presented import Presented

__all__ = ["policy_violation"]

_ANY = CertificatePoliciesOID.ANY_POLICY


def policy_violation(path: Sequence[Presented]) -> str | None:
    """What is wrong with the policies of this path, which is without its authority and ends in the leaf."""
    if not any(extension_of(one.certificate, x509.PolicyConstraints) for one in path):
        return None
    explicit_policy = inhibit_any_policy = math.inf  # how many more certificates until it has an effect
    valid: frozenset[x509.ObjectIdentifier] = frozenset({_ANY})
    for one in path:
        certificate, self_issued, last = one.certificate, one.issuer == one.subject, one is path[-1]
        policies = extension_of(certificate, x509.CertificatePolicies)
        said = frozenset(one.policy_identifier for one in policies.value) if policies else frozenset()
        if _ANY in said and (inhibit_any_policy > 0 or (self_issued and not last)):
            valid |= said if _ANY in valid else frozenset()
        else:
            valid = said - {_ANY} if _ANY in valid else valid & said
        if explicit_policy <= 0 and not valid:
            break
        if last or not self_issued:
            explicit_policy -= 1
        if not last and not self_issued:
            inhibit_any_policy -= 1
        constraints = extension_of(certificate, x509.PolicyConstraints)
        required = constraints.value.require_explicit_policy if constraints else None
        if required is not None and (not last or required == 0):
            explicit_policy = min(explicit_policy, required)
        inhibited = extension_of(certificate, x509.InhibitAnyPolicy)
        if inhibited is not None and not last:
            inhibit_any_policy = min(inhibit_any_policy, inhibited.value.skip_certs)
    if explicit_policy <= 0 and not valid:
        return "a CA requires certificate policies (requireExplicitPolicy), and no policy holds for the whole path"
    return None
