"""SPIFFE-ID, section 2: valid and invalid IDs, and which texts are the same ID."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshtls.errors import InvalidSpiffeIdError
from meshtls.spiffeid import MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES, SpiffeId, TrustDomain

DOMAIN_ALPHABET = string.ascii_lowercase + string.digits + "._-"
PATH_ALPHABET = string.ascii_letters + string.digits + "._-"

domains = st.text(DOMAIN_ALPHABET, min_size=1, max_size=MAX_TRUST_DOMAIN_BYTES)
segments = st.text(PATH_ALPHABET, min_size=1, max_size=60).filter(lambda text: text not in (".", ".."))
paths = st.lists(segments, max_size=6).map(lambda parts: "".join(f"/{part}" for part in parts))
ids = st.builds("spiffe://{}{}".format, domains, paths)
anything = st.text() | st.text(PATH_ALPHABET + ":/%@?#[] ").map("spiffe://".__add__)


def of_size(size: int) -> str:
    return ("spiffe://a.test/" + "x" * size)[:size]


@pytest.mark.parametrize(
    ("text", "domain", "path"),
    [
        pytest.param("spiffe://example.org/web", "example.org", "/web", id="one segment"),
        pytest.param("spiffe://example.org", "example.org", "", id="the trust domain's own ID has the empty path"),
        pytest.param("spiffe://example.org/ns/a/sa/b", "example.org", "/ns/a/sa/b", id="several segments"),
        pytest.param("spiffe://10.0.0.1/web", "10.0.0.1", "/web", id="a name that looks like an IPv4 address"),
        pytest.param("spiffe://-a..b/web", "-a..b", "/web", id="a name that is no DNS name"),
        pytest.param("spiffe://a_b/web", "a_b", "/web", id="an underscore"),
        pytest.param("spiffe://a/...", "a", "/...", id="three dots are no relative segment"),
        pytest.param("spiffe://a/.x/x..", "a", "/.x/x..", id="dots beside other characters"),
        pytest.param("SPIFFE://a/Web", "a", "/Web", id="the scheme in capitals"),
        pytest.param("spiffe://EXAMPLE.org/Web", "example.org", "/Web", id="the trust domain in capitals"),
    ],
)
def test_a_valid_id_is_parsed(text: str, domain: str, path: str) -> None:
    spiffe_id = SpiffeId.parse(text)
    assert (spiffe_id.trust_domain.name, spiffe_id.path) == (domain, path)


NO_SCHEME = "SPIFFE ID {}: wanted it to start with 'spiffe://'"
DOMAIN = "trust domain {}: wanted one or more of a-z, 0-9, '.', '_' and '-'"
EMPTY = "path {}: wanted no empty segment and no trailing '/'"
SEGMENT = "path segment {}: wanted only A-Z, a-z, 0-9, '.', '_' and '-'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", NO_SCHEME.format("''")),
        ("example.org/web", NO_SCHEME.format("'example.org/web'")),
        ("https://example.org/web", NO_SCHEME.format("'https://example.org/web'")),
        ("spiffe:/example.org/web", NO_SCHEME.format("'spiffe:/example.org/web'")),
        (" spiffe://a/web", NO_SCHEME.format("' spiffe://a/web'")),
        ("x" * 81, NO_SCHEME.format(repr("x" * 77 + "..."))),
        ("spiffe://", DOMAIN.format("''")),
        ("spiffe:///web", DOMAIN.format("''")),
        ("spiffe://user@a/web", DOMAIN.format("'user@a'")),
        ("spiffe://a:443/web", DOMAIN.format("'a:443'")),
        ("spiffe://[::1]/web", DOMAIN.format("'[::1]'")),
        ("spiffe://a%62/web", DOMAIN.format("'a%62'")),
        ("spiffe://a b/web", DOMAIN.format("'a b'")),
        ("spiffe://a\n/web", DOMAIN.format("'a\\n'")),
        ("spiffe://a?q/web", DOMAIN.format("'a?q'")),
        ("spiffe://a#f", DOMAIN.format("'a#f'")),
        ("spiffe://\N{KELVIN SIGN}.test/web", DOMAIN.format("'\N{KELVIN SIGN}.test'")),
        ("spiffe://\N{CYRILLIC SMALL LETTER A}.test/web", DOMAIN.format("'\N{CYRILLIC SMALL LETTER A}.test'")),
        ("spiffe://a/", EMPTY.format("'/'")),
        ("spiffe://a/web/", EMPTY.format("'/web/'")),
        ("spiffe://a//web", EMPTY.format("'//web'")),
        ("spiffe://a/./web", "path '/./web': wanted no relative segment '.'"),
        ("spiffe://a/web/..", "path '/web/..': wanted no relative segment '..'"),
        ("spiffe://a/%77eb", SEGMENT.format("'%77eb'")),
        ("spiffe://a/web?q=1", SEGMENT.format("'web?q=1'")),
        ("spiffe://a/web#f", SEGMENT.format("'web#f'")),
        ("spiffe://a/web\n", SEGMENT.format("'web\\n'")),
        ("spiffe://a/web\0", SEGMENT.format("'web\\x00'")),
        ("spiffe://a/wéb", SEGMENT.format("'wéb'")),
        ("spiffe://a/\N{ARABIC-INDIC DIGIT ONE}", SEGMENT.format("'\N{ARABIC-INDIC DIGIT ONE}'")),
    ],
)
def test_parsing_an_invalid_id_names_the_wrong_part(text: str, message: str) -> None:
    with pytest.raises(InvalidSpiffeIdError) as caught:
        SpiffeId.parse(text)
    assert str(caught.value) == message


def test_an_id_may_have_2048_bytes() -> None:
    assert len(str(SpiffeId.parse(of_size(MAX_ID_BYTES)))) == 2048


def test_an_id_of_2049_bytes_is_refused() -> None:
    with pytest.raises(InvalidSpiffeIdError, match=r"^SPIFFE ID of 2049 bytes: wanted at most 2048$"):
        SpiffeId.parse(of_size(MAX_ID_BYTES + 1))


def test_a_trust_domain_may_have_255_bytes() -> None:
    assert TrustDomain.parse("a" * 255).name == "a" * 255


def test_a_trust_domain_of_256_bytes_is_refused() -> None:
    with pytest.raises(InvalidSpiffeIdError, match=r"^trust domain of 256 bytes: wanted at most 255$"):
        TrustDomain.parse("a" * 256)


def test_a_path_built_by_hand_starts_with_a_slash() -> None:
    domain = TrustDomain("a.test")
    assert SpiffeId(domain, "/web") == SpiffeId.parse("spiffe://a.test/web")
    with pytest.raises(InvalidSpiffeIdError, match=r"^path 'web': wanted it to start with '/'$"):
        SpiffeId(domain, "web")


def test_scheme_and_trust_domain_compare_in_any_case_and_the_path_does_not() -> None:
    assert SpiffeId.parse("SpIfFe://A.Test/web") == SpiffeId.parse("spiffe://a.test/web")
    assert SpiffeId.parse("spiffe://a.test/Web") != SpiffeId.parse("spiffe://a.test/web")


def test_a_trust_domain_is_read_from_its_name_or_from_any_id_in_it() -> None:
    domain = TrustDomain("a.test")
    assert TrustDomain.parse("A.test") == domain
    assert TrustDomain.parse("spiffe://a.test") == domain
    assert TrustDomain.parse("spiffe://a.test/web") == domain


@pytest.mark.parametrize("text", ["", "a.test/web", "https://a.test", "spiffe://a.test/", "a.test:443"])
def test_an_invalid_trust_domain_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpiffeIdError):
        TrustDomain.parse(text)


def test_an_id_has_segments_and_membership_of_a_trust_domain() -> None:
    spiffe_id = SpiffeId.parse("spiffe://a.test/ns/default/sa/web")
    assert spiffe_id.segments == ("ns", "default", "sa", "web")
    assert spiffe_id.trust_domain.id.segments == ()
    assert spiffe_id.member_of(TrustDomain("a.test"))
    assert not spiffe_id.member_of(TrustDomain("test"))


def test_ids_sort_and_are_keys_of_a_dict() -> None:
    one, two = SpiffeId.parse("spiffe://a.test/a"), SpiffeId.parse("spiffe://a.test/b")
    assert sorted([two, one]) == [one, two]
    assert {one: 1}[SpiffeId.parse("spiffe://A.test/a")] == 1


@given(ids)
def test_every_valid_id_comes_back_as_it_was(text: str) -> None:
    assert str(SpiffeId.parse(text)) == text
    assert TrustDomain.parse(text).id == SpiffeId(SpiffeId.parse(text).trust_domain, "")


@given(ids)
def test_any_case_of_scheme_and_trust_domain_is_the_same_id(text: str) -> None:
    authority, slash, path = text.removeprefix("spiffe://").partition("/")
    shouted = f"SPIFFE://{authority.upper()}{slash}{path}"
    assert SpiffeId.parse(shouted) == SpiffeId.parse(text)


@given(domains, st.characters(exclude_characters=DOMAIN_ALPHABET + string.ascii_uppercase + "/"), st.data())
def test_a_character_outside_the_alphabet_spoils_a_trust_domain(domain: str, alien: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(domain)))
    with pytest.raises(InvalidSpiffeIdError):
        TrustDomain.parse(domain[:place] + alien + domain[place:])


@given(segments, st.characters(exclude_characters=PATH_ALPHABET + "/"), st.data())
def test_a_character_outside_the_alphabet_spoils_a_path(segment: str, alien: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(segment)))
    with pytest.raises(InvalidSpiffeIdError):
        SpiffeId.parse(f"spiffe://a.test/{segment[:place]}{alien}{segment[place:]}")


@given(anything)
def test_any_text_is_an_id_that_reads_back_or_a_named_error(text: str) -> None:
    try:
        spiffe_id = SpiffeId.parse(text)
    except InvalidSpiffeIdError:
        return
    assert SpiffeId.parse(str(spiffe_id)) == spiffe_id
    assert str(spiffe_id).lower() == text.lower()


@given(anything)
def test_any_text_is_a_trust_domain_that_reads_back_or_a_named_error(text: str) -> None:
    try:
        domain = TrustDomain.parse(text)
    except InvalidSpiffeIdError:
        return
    assert TrustDomain.parse(str(domain)) == domain


@pytest.mark.parametrize(
    ("value", "text", "message"),
    [
        (
            SpiffeId.parse("spiffe://example.org/web"),
            "spiffe://example.org/web",
            "SpiffeId spiffe://example.org/web compared with the str 'spiffe://example.org/web':"
            " compare it with SpiffeId.parse(...)",
        ),
        (
            TrustDomain("example.org"),
            "example.org",
            "TrustDomain example.org compared with the str 'example.org': compare it with TrustDomain.parse(...)",
        ),
    ],
)
def test_comparing_an_id_with_a_string_raises(value: SpiffeId | TrustDomain, text: str, message: str) -> None:
    with pytest.raises(TypeError) as raised:
        _ = value == text
    assert str(raised.value) == message
    with pytest.raises(TypeError):
        _ = value != text
    with pytest.raises(TypeError):
        _ = text == value
    with pytest.raises(TypeError):
        _ = value in [text]
    with pytest.raises(TypeError):
        _ = text in {value}
    with pytest.raises(TypeError):
        {value: 1}.get(text)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        {text: 1}.get(value)  # type: ignore[call-overload]

    parsed = type(value).parse(text)
    assert value == parsed
    assert not value != parsed  # noqa: SIM202  # it is `!=` that is tested
    assert value in [parsed]
    assert len({value, parsed}) == 1


def test_comparing_an_id_with_another_type_is_false() -> None:
    domain = TrustDomain("example.org")
    assert domain.id != domain
    assert domain != domain.id
    assert domain.id != None  # noqa: E711  # it is `!=` that is tested
    assert domain.id != TrustDomain("other.test").id


def test_an_id_made_from_a_text_says_how_a_text_is_read() -> None:
    with pytest.raises(TypeError) as raised:
        SpiffeId("spiffe://example.org/web")  # type: ignore[arg-type]

    assert str(raised.value) == (
        "SpiffeId: wanted a TrustDomain and a path, got 'spiffe://example.org/web';"
        " read a text with SpiffeId.parse('spiffe://example.org/path')"
    )
    assert SpiffeId(TrustDomain("example.org"), "/web") == SpiffeId.parse("spiffe://example.org/web")
    assert SpiffeId(TrustDomain("example.org")) == TrustDomain("example.org").id
