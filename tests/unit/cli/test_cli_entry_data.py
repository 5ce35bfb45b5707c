"""The JSON of many entries: our form, both of SPIRE's, and each mistake with its place."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.cli.entry_data import read_entries, read_ids
from meshtls.cli.records import entry_record
from meshtls.errors import RequestError
from meshtls.registration import Entry, Selector
from meshtls.spiffeid import SpiffeId, TrustDomain

WEB, NODE = SpiffeId.parse("spiffe://example.org/web"), SpiffeId.parse("spiffe://example.org/node")
GOOD = {"spiffe_id": str(WEB), "parent_id": str(NODE), "selectors": ["unix:uid:1000"]}
FULL = Entry(
    id="e1",
    revision=7,
    spiffe_id=WEB,
    parent_id=NODE,
    selectors=(Selector("unix", "uid:1000"), Selector("unix", "path:/bin/app")),
    x509_svid_ttl=120,
    jwt_svid_ttl=30,
    federates_with=(TrustDomain("partner.test"),),
    dns_names=("web.example.org",),
    hint="first",
    admin=True,
    downstream=True,
    expires_at=datetime(2035, 1, 31, 12, tzinfo=UTC),
)
SPIRE_FILE = {
    "entry_id": "e1",
    "revision_number": 7,
    "spiffe_id": str(WEB),
    "parent_id": str(NODE),
    "selectors": [{"type": "unix", "value": "uid:1000"}, {"type": "unix", "value": "path:/bin/app"}],
    "ttl": 120,
    "jwt_svid_ttl": 30,
    "federates_with": ["spiffe://partner.test"],
    "dns_names": ["web.example.org"],
    "hint": "first",
    "admin": True,
    "downstream": True,
    "entry_expiry": 2053857600,
    "store_svid": False,
}
SPIRE_SHOWN = {
    "id": "e1",
    "revision_number": "7",
    "spiffe_id": {"trust_domain": "example.org", "path": "/web"},
    "parent_id": {"trust_domain": "example.org", "path": "/node"},
    "selectors": [{"type": "unix", "value": "uid:1000"}, {"type": "unix", "value": "path:/bin/app"}],
    "x509_svid_ttl": 120,
    "jwt_svid_ttl": 30,
    "federates_with": ["partner.test"],
    "dns_names": ["web.example.org"],
    "hint": "first",
    "admin": True,
    "downstream": True,
    "expires_at": "2053857600",
    "created_at": "1700000000",
    "store_svid": False,
}


def document(*entries: object) -> bytes:
    return json.dumps({"entries": entries}).encode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(document(entry_record(FULL)), id="ours"),
        pytest.param(json.dumps([entry_record(FULL)]).encode(), id="a list"),
        pytest.param(json.dumps(entry_record(FULL)).encode(), id="one object"),
        pytest.param(document(SPIRE_FILE), id="SPIRE's file"),
        pytest.param(json.dumps({"entries": [SPIRE_SHOWN], "next_page_token": ""}).encode(), id="SPIRE's entry show"),
    ],
)
def test_every_form_gives_the_same_entry(text: bytes) -> None:
    [found] = read_entries(text)

    assert found.id == "e1"
    assert Entry(id=found.id, **found.fields) == FULL


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"{", "wanted JSON, got invalid JSON: "),
        (b'{"entries": []} x', "wanted JSON, got invalid JSON: "),
        (b"[" * 100_000, "wanted JSON, got invalid JSON: "),
        (b"\xff", "wanted JSON, got invalid JSON: "),
        (b"7", 'wanted {"entries": [...]} or a list, got a number'),
        (b'{"rows": []}', 'wanted {"entries": [...]} or a list, got an object'),
        (b'{"entries": [], "rows": []}', "wanted entries alone, got 'rows' beside it"),
        (b'{"entries": [{"hint": "a", "hint": "b"}]}', "duplicate key 'hint' in an object"),
        (document(7), "\n  entries[0]: wanted an object, got a number"),
        (document({**GOOD, "colour": 1}), "\n  entries[0].colour: unknown key; wanted one of id, spiffe_id, "),
        (
            document({**GOOD, "ttl": 1, "x509_svid_ttl": 1}),
            "x509_svid_ttl: this key is another name of a key that is already given",
        ),
        (document({**GOOD, "spiffe_id": "web"}), "entries[0].spiffe_id: SPIFFE ID 'web': wanted it to start with"),
        (document({**GOOD, "selectors": "unix:uid:1"}), "entries[0].selectors: wanted a list, got a string"),
        (document({**GOOD, "selectors": ["unix"]}), "entries[0].selectors: selector 'unix:': wanted type:value"),
        (document({**GOOD, "x509_svid_ttl": -1}), "entries[0].x509_svid_ttl: wanted a whole number, got -1"),
        (document({**GOOD, "x509_svid_ttl": True}), "entries[0].x509_svid_ttl: wanted a whole number, got True"),
        (document({**GOOD, "admin": 1}), "entries[0].admin: wanted true or false, got a number"),
        (document({**GOOD, "store_svid": True}), "entries[0].store_svid: storing SVIDs is not supported"),
        (document({**GOOD, "expires_at": "tomorrow"}), "entries[0].expires_at: wanted a time such as 2030-01-31T12"),
        (document({**GOOD, "expires_at": "9" * 18}), "entries[0].expires_at: wanted a time such as 2030-01-31T12"),
    ],
)
def test_a_mistake_is_an_error_with_its_position(value: bytes, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_entries(value)

    assert message in str(refused.value)


def test_up_to_twenty_mistakes_are_reported_in_one_run() -> None:
    with pytest.raises(RequestError) as refused:
        read_entries(document(*({**GOOD, "admin": number} for number in range(22))))

    lines = str(refused.value).split("\n  ")
    assert lines[0] == "it can't be used:"
    assert lines[1] == "entries[0].admin: wanted true or false, got a number"
    assert lines[20:] == ["entries[19].admin: wanted true or false, got a number", "and 2 more"]


@pytest.mark.parametrize(
    "value",
    [{"ids": ["a", "b"]}, ["a", "b"], {"entries": [{"id": "a"}, {"entry_id": "b"}]}],
)
def test_ids_are_read_from_a_list_and_from_entries(value: object) -> None:
    assert read_ids(json.dumps(value).encode()) == ["a", "b"]


def test_an_invalid_id_is_refused() -> None:
    with pytest.raises(RequestError, match=r"ids\[1\]: wanted an entry's id, got a number"):
        read_ids(b'{"ids": ["a", 7]}')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SPIRE_FILE, *GOOD, "x"]), inner),
    max_leaves=12,
)


@given(JSON)
def test_no_document_raises_anything_else(value: Any) -> None:
    for read in (read_entries, read_ids):
        try:
            read(json.dumps({"entries": [value]}).encode())
        except RequestError:
            continue
