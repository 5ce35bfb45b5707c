"""The header x-forwarded-client-cert, in the form that Envoy gives it."""

from __future__ import annotations

from meshtls.wire.xfcc import appended, element

BY, URI = "spiffe://example.org/ns/a/sa/b", "spiffe://example.org/ns/a/sa/c"


def test_an_element_names_us_the_certificate_and_the_peer() -> None:
    assert element(BY, "0a1b", URI) == f"By={BY};Hash=0a1b;URI={URI}"


def test_pem_is_quoted_and_percent_encoded() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nA+/=\n-----END CERTIFICATE-----\n"
    told = "-----BEGIN%20CERTIFICATE-----%0AA%2B%2F%3D%0A-----END%20CERTIFICATE-----%0A"
    assert element(BY, "0a", URI, cert=pem, chain=pem + pem) == (
        f'By={BY};Hash=0a;Cert="{told}";Chain="{told}{told}";URI={URI}'
    )


def test_elements_are_separated_by_commas() -> None:
    assert appended([], "By=x") == "By=x"
    assert appended(["By=y;URI=z", "By=w"], "By=x") == "By=y;URI=z,By=w,By=x"
