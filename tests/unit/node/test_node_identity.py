"""Names to SPIFFE IDs and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import InvalidSpiffeIdError
from meshtls.node.identity import Named, id_of, named_by, verify_identity
from meshtls.spiffeid import SpiffeId, TrustDomain

DOMAIN = TrustDomain("example.com")
NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True).filter(lambda name: name not in (".", ".."))


@pytest.mark.parametrize(
    ("namespace", "path"),
    [
        (None, "/service-a"),
        ("ns-1", "/ns-1/service-a"),
        ("default", "/ns/default/sa/service-a"),
        ("ns-", "/ns/ns-/sa/service-a"),
    ],
)
def test_a_namespace_decides_the_form_of_the_path(namespace: str | None, path: str) -> None:
    assert id_of("service-a", namespace, DOMAIN) == SpiffeId(DOMAIN, path)


@given(service=NAMES, namespace=st.none() | NAMES)
def test_the_service_and_namespace_are_read_back_from_an_id(service: str, namespace: str | None) -> None:
    assert named_by(id_of(service, namespace, DOMAIN)) == Named(service, namespace)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "..", "é", "%41"])
@pytest.mark.parametrize("place", ["service", "namespace"])
def test_a_name_that_is_no_path_segment_is_refused(name: str, place: str) -> None:
    with pytest.raises(InvalidSpiffeIdError):
        id_of(**{"service": "service-a", "namespace": "ns-1", place: name}, trust_domain=DOMAIN)


def test_an_error_shows_the_beginning_of_a_long_name() -> None:
    with pytest.raises(InvalidSpiffeIdError) as caught:
        id_of("/" * 500_000, None, DOMAIN)

    shown = f"'{'/' * 60}'... (500000 characters)"
    assert str(caught.value) == f"name {shown}: wanted one or more characters and no '/'"


@pytest.mark.parametrize(
    ("spiffe_id", "named"),
    [
        ("spiffe://example.com/ns-1/service-a", Named("service-a", "ns-1")),
        ("spiffe://example.com/ns/prod/sa/service-a", Named("service-a", "prod")),
        ("spiffe://example.com/service-a", Named("service-a", None)),
        ("SPIFFE://Example.COM/service-a", Named("service-a", None)),
    ],
)
def test_the_three_forms_are_parsed(spiffe_id: str, named: Named) -> None:
    assert verify_identity(spiffe_id, "example.com") == named


FORMS = "/ns-<namespace>/<service>, /ns/<namespace>/sa/<service> or /<service>"


@pytest.mark.parametrize(
    ("spiffe_id", "trust_domain", "message"),
    [
        (
            "spiffe://example.org/ns-1/service-a",
            "example.com",
            "spiffe://example.org/ns-1/service-a: wanted trust domain example.com, got example.org",
        ),
        ("spiffe://example.com", "example.com", f"spiffe://example.com: wanted a path {FORMS}, got none"),
        (
            "spiffe://example.com/prod/service-a",
            "example.com",
            f"spiffe://example.com/prod/service-a: wanted a path {FORMS}, got '/prod/service-a'",
        ),
        (
            "spiffe://example.com/ns/prod/sa/service-a/more",
            "example.com",
            f"spiffe://example.com/ns/prod/sa/service-a/more: wanted a path {FORMS}, got '/ns/prod/sa/service-a/more'",
        ),
        (
            "https://example.com/service-a",
            "example.com",
            "SPIFFE ID 'https://example.com/service-a': wanted it to start with 'spiffe://'",
        ),
        (
            "spiffe://example.com/service-a",
            "no domain",
            "trust domain 'no domain': wanted one or more of a-z, 0-9, '.', '_' and '-'",
        ),
    ],
)
def test_any_other_identity_is_refused_with_the_reason(spiffe_id: str, trust_domain: str, message: str) -> None:
    with pytest.raises(InvalidSpiffeIdError) as caught:
        verify_identity(spiffe_id, trust_domain)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({}, None),
        ({"service": "web"}, None),
        ({"service": "web", "namespace": "ns-1"}, None),
        ({"namespace": "ns-1"}, None),
        ({"service": "db"}, "spiffe://example.org/ns-1/web: wanted service 'db', got 'web'"),
        ({"service": "web", "namespace": "ns-2"}, "spiffe://example.org/ns-1/web: wanted namespace 'ns-2', got 'ns-1'"),
        ({"service": ""}, "spiffe://example.org/ns-1/web: wanted service '', got 'web'"),
    ],
)
def test_an_identity_is_compared_with_the_expected_service_and_namespace(
    expected: dict[str, str], message: str | None
) -> None:
    if message is None:
        assert verify_identity("spiffe://example.org/ns-1/web", "example.org", **expected) == Named("web", "ns-1")
        return
    with pytest.raises(InvalidSpiffeIdError) as refused:
        verify_identity("spiffe://example.org/ns-1/web", "example.org", **expected)
    assert str(refused.value) == message


def test_a_bare_service_has_no_namespace_to_compare() -> None:
    with pytest.raises(InvalidSpiffeIdError) as refused:
        verify_identity("spiffe://example.org/web", "example.org", namespace="ns-1")

    assert str(refused.value) == "spiffe://example.org/web: wanted namespace 'ns-1', got none"
