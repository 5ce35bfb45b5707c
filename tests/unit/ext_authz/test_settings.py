"""The keys of an ext_authz provider: a file that is read, and each mistake with its whole message."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import pytest

from meshtls.address import Address
from meshtls.config.document import yaml_document
from meshtls.config.keys import Key
from meshtls.config.reading import read
from meshtls.errors import ConfigError
from meshtls.ext_authz.settings import AddedHeader, ExtAuthzProvider, ProviderKind


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A file with providers."""

    ext_authz: Annotated[tuple[ExtAuthzProvider, ...], Key("Who decides on CUSTOM policies.")] = ()


def providers(*lines: str) -> tuple[ExtAuthzProvider, ...]:
    text = "ext_authz:\n- name: opa\n" + "".join(f"  {line}\n" for line in lines)
    return read(yaml_document("file.yaml", text), Holder).value.ext_authz


GRPC = ("kind: grpc", "address: 127.0.0.1:9191")
HTTP = ("kind: http", "address: localhost:8181")


def test_a_provider_has_careful_defaults() -> None:
    [opa] = providers(*GRPC)
    assert opa == ExtAuthzProvider(name="opa", kind=ProviderKind.GRPC, address=Address("127.0.0.1", 9191))
    assert (opa.timeout, opa.concurrent_checks, opa.status_on_error) == (5.0, 128, 403)
    assert not opa.fail_open_allow_unauthorized_requests
    assert not opa.insecure_plaintext_to_another_host


def test_every_key_is_read() -> None:
    [opa] = providers(
        "kind: http",
        "address: authz.test:8181",
        "ca_file: ca.pem",
        "timeout: 250ms",
        "concurrent_checks: 8",
        "fail_open_allow_unauthorized_requests: true",
        "status_on_error: 503",
        "path_prefix: /check",
        "include_request_headers: [Authorization, x-*, '*-id']",
        "include_additional_headers: ['X-Asked-By: sidecar']",
        "headers_upstream_on_allow: [x-user]",
        "headers_downstream_on_deny: ['*']",
        "headers_downstream_on_allow: [set-cookie]",
    )
    assert opa == ExtAuthzProvider(
        name="opa",
        kind=ProviderKind.HTTP,
        address=Address("authz.test", 8181),
        ca_file=Path("ca.pem"),
        timeout=0.25,
        concurrent_checks=8,
        fail_open_allow_unauthorized_requests=True,
        status_on_error=503,
        path_prefix="/check",
        include_request_headers=("authorization", "x-*", "*-id"),
        include_additional_headers=(AddedHeader("x-asked-by", "sidecar"),),
        headers_upstream_on_allow=("x-user",),
        headers_downstream_on_deny=("*",),
        headers_downstream_on_allow=("set-cookie",),
    )


def test_an_additional_header_is_sent_as_utf_8() -> None:
    [opa] = providers(*HTTP, "include_additional_headers: ['x-city: Köln']")
    assert opa.include_additional_headers == (AddedHeader("x-city", "Köln".encode().decode("latin-1")),)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ("kind: tcp", "address: 127.0.0.1:1"),
            "line 3: ext_authz[0].kind: wanted http or grpc, got 'tcp'",
        ),
        (
            (*GRPC, "path_prefix: /check"),
            "line 5: ext_authz[0].path_prefix: wanted no such key with kind: grpc, which sends all headers and is"
            " told what to change",
        ),
        (
            ("kind: grpc", "address: authz.test:9191"),
            "line 4: ext_authz[0].address: wanted loopback, such as a listener of a sidecar that dials the"
            " provider, or ca_file for TLS, got authz.test:9191: an attacker on the network path could"
            " answer; insecure_plaintext_to_another_host allows it",
        ),
        (
            (*HTTP, "path_prefix: check"),
            "line 5: ext_authz[0].path_prefix: wanted a path such as /check, got 'check'",
        ),
        (
            (*HTTP, "include_request_headers: ['x-*-y']"),
            "line 5: ext_authz[0].include_request_headers[0]: wanted a header's name, which may begin or end with"
            " a star, got 'x-*-y'",
        ),
        (
            (*HTTP, "include_additional_headers: ['x y: z']"),
            "line 5: ext_authz[0].include_additional_headers[0]: wanted a header such as 'x-asked-by: sidecar',"
            " got 'x y: z'",
        ),
        (
            (*HTTP, "status_on_error: 200"),
            "line 5: ext_authz[0].status_on_error: wanted a whole number from 400 to 599, got '200'",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(lines: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        providers(*lines)
    assert str(caught.value) == f"file.yaml, {message}"


@pytest.mark.parametrize("key", ["include_request_body_in_check", "includeRequestBodyInCheck"])
@pytest.mark.parametrize("kind", [GRPC, HTTP], ids=["grpc", "http"])
def test_a_provider_that_wants_the_body_is_refused_by_the_name_of_the_key(kind: tuple[str, ...], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        providers(*kind, f"{key}: {{max_request_bytes: 1024, allow_partial_message: true}}")
    assert str(caught.value).startswith(
        f"file.yaml, line 5: ext_authz[0].{key}: unknown key; wanted one of name, kind,"
    )


@pytest.mark.parametrize("line", ["insecure_plaintext_to_another_host: true", "ca_file: ca.pem"])
def test_a_provider_on_another_host_is_read_with_tls_or_the_loud_key(line: str) -> None:
    [opa] = providers("kind: grpc", "address: authz.test:9191", line)
    assert opa.address == Address("authz.test", 9191)


def test_the_documents_example_is_read() -> None:
    page = Path(__file__).parents[3] / "docs" / "request-auth.md"
    example = page.read_text("utf-8").split("```yaml\n")[2].partition("```")[0]
    document = yaml_document("page", example)
    assert [one.name for one in read(document, Holder).value.ext_authz] == ["opa", "login"]
