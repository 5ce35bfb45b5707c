"""What a CA that requires a policy over its path (requireExplicitPolicy) refuses below it (RFC 5280, section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from meshtls.svid.policies import policy_violation
from meshtls.svid.presented import Presented
from tests.support.certs import Extension, ca, leaf

_VIOLATION = "a CA requires certificate policies (requireExplicitPolicy), and no policy holds for the whole path"


def policies(*oids: str) -> Extension:
    return x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier(one), None) for one in oids]), False


def required(skip: int) -> Extension:
    """An explicit policy is required after this many more certificates."""
    return x509.PolicyConstraints(require_explicit_policy=skip, inhibit_policy_mapping=None), True


def inhibited(skip: int) -> Extension:
    """anyPolicy counts in this many more certificates."""
    return x509.InhibitAnyPolicy(skip), True


@dataclass(frozen=True)
class Step:
    """A certificate of a path; a self-issued one has its issuer's name."""

    extensions: tuple[Extension, ...] = ()
    self_issued: bool = False


def step(*extensions: Extension, self_issued: bool = False) -> Step:
    return Step(extensions, self_issued)


A, B, ANY, A_AND_ANY, B_AND_ANY = (
    policies(*oids)
    for oids in (("1.2.3.1",), ("1.2.3.2",), ("2.5.29.32.0",), ("1.2.3.1", "2.5.29.32.0"), ("1.2.3.2", "2.5.29.32.0"))
)
NONE = step()


def violation_of(*steps: Step) -> str | None:
    """Of a path that begins right below a root and ends in the leaf."""
    issuer, name, path = ca(), "root", list[Presented]()
    for place, one in enumerate(steps):
        name = name if one.self_issued else f"step {place}"
        if place == len(steps) - 1:
            issuer = leaf(issuer, "spiffe://a.test/web", subject=name, extra=one.extensions)
        else:
            issuer = ca(issuer, slot=f"step {place}", name=name, extra=one.extensions)
        path.append(Presented.of(issuer.certificate))
    return policy_violation(path)


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([step(A), NONE], id="none is required"),
        pytest.param([step(A, inhibited(0)), NONE, NONE], id="none is required and any inhibited"),
        pytest.param([step(A, required(0)), step(A)], id="the whole path has it"),
        pytest.param([step(A, required(0)), step(A), step(A)], id="a longer path has it"),
        pytest.param([step(A, required(0)), step(ANY)], id="the leaf has any"),
        pytest.param([step(ANY, required(0)), step(A)], id="the CA has any"),
        pytest.param([step(A_AND_ANY, required(0)), step(B)], id="the CA has any beside another"),
        pytest.param([step(A, required(2)), NONE], id="required two below, and the leaf is one below"),
        pytest.param([step(A, required(2)), step(self_issued=True), NONE], id="a self-issued CA does not count"),
        pytest.param([step(A, required(0), inhibited(1)), step(ANY)], id="any inhibited after the leaf"),
        pytest.param(
            [step(A, required(0), inhibited(1)), step(A, self_issued=True), step(ANY)],
            id="any inhibited after the leaf, as a self-issued CA does not count",
        ),
        pytest.param(
            [step(A, required(0), inhibited(0)), step(ANY, self_issued=True), step(A)],
            id="any inhibited, which a self-issued CA may have",
        ),
        pytest.param([NONE, step(required(1))], id="a leaf that requires it of what is below it"),
    ],
)
def test_a_path_with_the_policies_that_its_cas_require_is_accepted(steps: list[Step]) -> None:
    assert violation_of(*steps) is None


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([step(A, required(0)), NONE], id="the leaf has none"),
        pytest.param([step(A, required(0)), step(A), NONE], id="the leaf of a longer path has none"),
        pytest.param([step(A, required(0)), NONE, step(A)], id="a CA between has none"),
        pytest.param([step(required(0)), step(A)], id="the CA that requires it has none"),
        pytest.param([step(A, required(0)), step(B)], id="the leaf has another"),
        pytest.param([step(A, required(0)), step(B_AND_ANY), step(B)], id="the leaf has one that no CA above has"),
        pytest.param([step(A, required(1)), NONE], id="required of the leaf"),
        pytest.param([step(A, required(1)), step(self_issued=True)], id="required of a self-issued leaf"),
        pytest.param([step(A, required(2)), NONE, NONE], id="required two below, and the leaf is two below"),
        pytest.param([step(A, required(0), inhibited(0)), step(ANY)], id="any inhibited, and the leaf has any"),
        pytest.param(
            [step(A, required(0), inhibited(0)), step(ANY, self_issued=True)],
            id="any inhibited, and a self-issued leaf has any",
        ),
        pytest.param(
            [step(A, required(0), inhibited(0)), step(ANY), step(A)], id="any inhibited, and a CA between has any"
        ),
        pytest.param(
            [step(A, required(0), inhibited(1)), step(A), step(ANY)],
            id="any inhibited one below, and the leaf two below has any",
        ),
        pytest.param([NONE, step(required(0))], id="a leaf that requires it has none"),
    ],
)
def test_a_path_without_a_policy_that_its_cas_require_is_refused(steps: list[Step]) -> None:
    assert violation_of(*steps) == _VIOLATION
