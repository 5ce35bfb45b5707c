"""What may be secret in a URL or a request's target is not in messages."""

from __future__ import annotations

import pytest

from meshtls.address import checked_url
from meshtls.errors import RequestError
from meshtls.redaction import bare_url, shown_url, without_query
from meshtls.request_auth.fetch import Fetcher
from meshtls.request_auth.settings import KeySetSettings


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("/items", "/items"),
        ("/items?", "/items?"),
        ("/items?access_token=secret", "/items?…"),
        ("/items?a=1;access_token=secret", "/items?…"),
        ("/items?ACCESS_TOKEN=secret", "/items?…"),
        ("/items#access_token=secret", "/items#…"),
        ("/items?a=1?access_token=secret", "/items?…"),
    ],
)
def test_a_target_is_shown_without_its_query(target: str, shown: str) -> None:
    assert without_query(target) == shown


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://keys.example/jwks", "https://keys.example/jwks"),
        ("https://keys.example:8443/a@b", "https://keys.example:8443/a@b"),
        ("https://keys.example/jwks?key=secret", "https://keys.example/jwks?…"),
        ("https://keys.example/jwks?to=a@b", "https://keys.example/jwks?…"),
        ("https://keys.example/jwks#secret", "https://keys.example/jwks#…"),
        ("https://me:secret@keys.example/jwks", "https://…@keys.example/jwks"),
        ("https://me:secret/of@keys.example/jwks", "https://…@keys.example/jwks"),
        ("https://me:a@secret@keys.example/jwks", "https://…@keys.example/jwks"),
        ("me:secret@keys.example", "…@keys.example"),
    ],
)
def test_a_url_is_shown_without_user_and_query(url: str, shown: str) -> None:
    assert (bare_url(url), shown_url(url)) == (shown, repr(shown))


def test_a_key_sets_address_with_a_password_is_refused_without_printing_it() -> None:
    fetcher = Fetcher(KeySetSettings())
    with pytest.raises(
        RequestError,
        match="^wanted an address of a key set without spaces and passwords, got 'https://…@keys.example/jwks'$",
    ):
        fetcher.check("https://me:secret@keys.example/jwks")
    with pytest.raises(RequestError, match="^wanted an https:// address of a key set, got 'https://…@keys.example'$"):
        fetcher.check("https://me:secret/@keys.example")
    assert fetcher.check("https://keys.example/jwks").hostname == "keys.example"


def test_a_url_with_a_password_is_refused_without_printing_it() -> None:
    words = "wanted a URL such as https://log.example.org or http://127.0.0.1:8085, got 'https://…@log.example.org'"
    with pytest.raises(RequestError) as refused:
        checked_url("https://me:secret@log.example.org")
    assert str(refused.value) == words
    assert checked_url("https://log.example.org") == "https://log.example.org"
