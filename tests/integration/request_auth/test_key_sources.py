"""Key sets over real HTTPS, from files and from the Workload API: fetched, kept, refused, and fetched again."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.errors import ConfigError, LocalIdentityError
from meshtls.policy.istio.model import JwtRule
from meshtls.policy.jwt.authenticate import Authenticated
from meshtls.request_auth.authenticator import RequestAuthenticator
from meshtls.request_auth.fetch import Fetcher
from meshtls.request_auth.settings import KeySetSettings
from meshtls.request_auth.sources import REFETCH_SECONDS, SHORTEST_AGE, USUAL_AGE, FetchedKeys
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.jwt import sign
from meshtls.wire.http import HttpRequest, Refuse
from tests.support.certs import key
from tests.support.clock import ManualClock
from tests.support.jwts import Issuer, signing_key

OWN = SpiffeId.parse("spiffe://example.org/shop")
CA = trustme.CA()


class KeyServer:
    """Serves ``answer``, a whole HTTP response, to each request, over TLS unless told otherwise; counts them."""

    def __init__(self) -> None:
        self.answer = b""
        self.served = 0
        self.paths: list[str] = []
        self.hold: Callable[[], Awaitable[object]] | None = None
        self.address = ""
        self.handling: set[asyncio.Task[None]] = set()

    def serve(self, body: str, status: str = "200 OK", *headers: str) -> None:
        lines = "".join(f"{one}\r\n" for one in headers)
        self.answer = f"HTTP/1.1 {status}\r\n{lines}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.handling.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            self.paths.append(head.split(b" ")[1].decode())
            self.served += 1
            if self.hold:
                await self.hold()
            writer.write(self.answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.handling.discard(task)


@asynccontextmanager
async def key_server(*, tls: bool = True, name: str = "127.0.0.1") -> AsyncIterator[KeyServer]:
    serving, context = KeyServer(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    CA.issue_cert(name).configure_cert(context)
    server = await asyncio.start_server(serving.handle, "127.0.0.1", 0, ssl=context if tls else None)
    port = server.sockets[0].getsockname()[1]
    serving.address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield serving
    finally:
        server.close()
        await asyncio.gather(*serving.handling)


@pytest.fixture
def settings(tmp_path: Path) -> KeySetSettings:
    CA.cert_pem.write_to_path(tmp_path / "ca.pem")
    return KeySetSettings(ca_file=tmp_path / "ca.pem")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer(clock: ManualClock) -> Issuer:
    return Issuer("https://issuer.test", clock.now())


def rule_of(server: KeyServer, path: str = "/jwks", timeout: float = 20.0) -> JwtRule:
    return JwtRule(issuer="https://issuer.test", jwks_uri=f"{server.address}{path}", timeout=timedelta(seconds=timeout))


def asking(token: str) -> HttpRequest:
    return HttpRequest("GET", "shop.test", "/", (("authorization", f"Bearer {token}"),))


async def outcome(authenticator: RequestAuthenticator, token: str) -> str:
    """The principal, or the text of the refusal."""
    answer = await authenticator.authenticate(asking(token))
    if isinstance(answer, Refuse):
        return answer.reason
    return answer.auth.principal if answer.auth else "no auth"


async def test_a_key_set_is_fetched_over_https_and_waited_for(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        server.serve(issuer.jwks())
        authenticator = RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock)
        async with authenticator:
            assert authenticator.authenticate_now(asking(issuer.token())) is None
            assert await outcome(authenticator, issuer.token()) == "https://issuer.test/alice"
            assert isinstance(authenticator.authenticate_now(asking(issuer.token())), Authenticated)
            assert authenticator.complaints == ()
        assert server.paths == ["/jwks"]


async def test_a_server_that_the_ca_did_not_sign_gives_no_keys(clock: ManualClock, issuer: Issuer) -> None:
    async with key_server() as server:
        server.serve(issuer.jwks())
        async with RequestAuthenticator([rule_of(server)], OWN, clock=clock) as authenticator:
            refusal = await outcome(authenticator, issuer.token())
        assert refusal.startswith(
            f"JWT of issuer 'https://issuer.test': the key set at {server.address}/jwks can't be fetched:"
            f" {server.address.removeprefix('https://')}: its certificate is refused: "
        )
        assert server.served == 0


async def test_a_server_of_another_name_gives_no_keys(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server(name="other.test") as server:
        server.serve(issuer.jwks())
        async with RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock) as authenticator:
            assert "its certificate is refused: IP address mismatch" in await outcome(authenticator, issuer.token())


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "wanted status 200, got 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "wanted a JWK set, a JSON object with an array 'keys'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", "gave an invalid answer: it ended too early"),
        (b"", "closed the connection without an answer"),
        (b"SSH-2.0-x\r\n", "gave an invalid answer"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * (1 << 18), "gave too large an answer: its head has more than 65536 bytes"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b" " * 2_000_000,
            "gave too large an answer: its body has more than 1048576 bytes",
        ),
        (
            b"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "gave an invalid answer: it switched protocols",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
            "from https:// to 'http:",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: file:///etc/x\r\nContent-Length: 0\r\n\r\n", "wanted an https:// address"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: https://[::1/\r\nContent-Length: 0\r\n\r\n",
            "redirected to 'https://[::1/'",
        ),
        (b"HTTP/1.1 302 Found\r\nLocation: /jwks\r\nContent-Length: 0\r\n\r\n", "redirected more than 3 times"),
    ],
    ids=[
        "404",
        "no set",
        "cut",
        "nothing",
        "no HTTP",
        "long head",
        "long body",
        "upgrade",
        "to plaintext",
        "to a file",
        "to a broken address",
        "in circles",
    ],
)
async def test_a_bad_answer_gives_no_keys_and_a_good_one_later_does(
    answer: bytes, why: str, settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        server.answer = answer
        async with RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock) as authenticator:
            assert why in await outcome(authenticator, issuer.token())
            [complaint] = authenticator.complaints
            assert why in complaint
            assert complaint.endswith("; no token of its issuer is accepted")
            server.serve(issuer.jwks())
            await clock.until_sleepers()
            clock.advance(REFETCH_SECONDS)
            assert await outcome(authenticator, issuer.token()) == "https://issuer.test/alice"
            assert authenticator.complaints == ()


async def test_a_redirect_within_https_is_followed(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server, key_server() as target:
        server.answer = f"HTTP/1.1 302 Found\r\nLocation: {target.address}/keys?a=b\r\n\r\n".encode()
        target.serve(issuer.jwks())
        async with RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock) as authenticator:
            assert await outcome(authenticator, issuer.token()) == "https://issuer.test/alice"
        assert target.paths == ["/keys?a=b"]


async def test_a_silent_server_costs_the_timeout_and_no_more(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        over = asyncio.Event()
        server.hold = over.wait
        rule = rule_of(server, timeout=0.2)
        async with RequestAuthenticator([rule], OWN, settings=settings, clock=clock) as authenticator:
            assert await outcome(authenticator, issuer.token()) == (
                f"JWT of issuer 'https://issuer.test': the key set at {server.address}/jwks can't be fetched:"
                " no answer within 0.2 s"
            )
            over.set()


async def test_an_unknown_key_causes_one_fetch_in_ten_seconds(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    rotated = replace(issuer, key=signing_key("P-256", 1), key_id="two")
    async with key_server() as server:
        server.serve(issuer.jwks())
        async with RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock) as authenticator:
            await outcome(authenticator, issuer.token())
            server.serve(rotated.jwks())
            await clock.until_sleepers()
            for _ in range(3):
                assert "no key 'two'" in await outcome(authenticator, rotated.token())
            assert server.served == 1
            clock.advance(REFETCH_SECONDS)
            found = await asyncio.gather(*(outcome(authenticator, rotated.token()) for _ in range(8)))
            assert found == ["https://issuer.test/alice"] * 8
            assert server.served == 2
            assert "no key 'one'" in await outcome(authenticator, issuer.token())


@pytest.mark.parametrize(
    ("control", "age"),
    [
        ("max-age=600", 600),
        ("public, Max-Age=600, must-revalidate", 600),
        ("max-age=1", SHORTEST_AGE),
        ("no-store", SHORTEST_AGE),
        ("max-age=9999999", 3600),
        ("private", USUAL_AGE),
    ],
)
async def test_a_key_set_is_fetched_again_when_its_age_says_so(
    control: str, age: int, settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        server.serve(issuer.jwks(), "200 OK", f"Cache-Control: {control}")
        async with RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock) as authenticator:
            await outcome(authenticator, issuer.token())
            await clock.until_sleepers()
            assert clock.wakes_in == (age,)


async def test_a_key_set_stays_in_use_while_its_server_is_down(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        server.serve(issuer.jwks())
        async with RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock) as authenticator:
            await outcome(authenticator, issuer.token())
            server.serve("", "503 Service Unavailable")
            await clock.until_sleepers()
            clock.advance(USUAL_AGE)
            await clock.until_sleepers()
            later = replace(issuer, now=clock.now())
            assert await outcome(authenticator, later.token()) == "https://issuer.test/alice"
            assert authenticator.complaints == (
                f"the key set at {server.address}/jwks can't be fetched: wanted status 200, got 503;"
                " the last one stays in use",
            )


async def test_a_request_that_waits_for_keys_is_answered_although_the_authenticator_closes(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        over, asked = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            asked.set()
            await over.wait()

        server.serve(issuer.jwks())
        server.hold = hold
        authenticator = RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock)
        await authenticator.__aenter__()
        waiting = asyncio.create_task(outcome(authenticator, issuer.token()))
        await asked.wait()
        closing = asyncio.create_task(authenticator.__aexit__(None, None, None))
        await asyncio.sleep(0)
        over.set()
        assert await waiting == "https://issuer.test/alice"
        await closing
        # A closed one has the keys that it had, and waits for no others.
        rotated = replace(issuer, key=signing_key("P-256", 1), key_id="two")
        async with asyncio.timeout(60):
            assert "no key 'two'" in await outcome(authenticator, rotated.token())


async def test_a_wait_for_keys_ends_with_the_task_that_fetches_them(clock: ManualClock) -> None:
    async with key_server(tls=False) as server:
        over, asked = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            asked.set()
            await over.wait()

        server.hold = hold
        keys = FetchedKeys(f"{server.address}/jwks", 60.0, Fetcher(KeySetSettings()), clock)
        following = asyncio.create_task(keys.follow(lambda: None))
        await asked.wait()
        waiting = asyncio.create_task(keys.newer())
        await asyncio.sleep(0)
        following.cancel()
        done, _ = await asyncio.wait([waiting], timeout=30)
        waiting.cancel()
        over.set()
        assert done


async def test_a_newer_authenticator_has_the_keys_of_the_older_one_unless_they_are_fetched_otherwise(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        server.serve(issuer.jwks())
        rules = [JwtRule(issuer="https://second.test", jwks=issuer.jwks()), rule_of(server)]
        async with RequestAuthenticator([rule_of(server)], OWN, settings=settings, clock=clock) as older:
            await outcome(older, issuer.token())
            server.serve("", "503 Service Unavailable")
            async with RequestAuthenticator(rules, OWN, settings=settings, clock=clock, older=older) as newer:
                assert await outcome(newer, issuer.token()) == "https://issuer.test/alice"
                await clock.until_sleepers(2)
                assert await outcome(newer, issuer.token()) == "https://issuer.test/alice"
            other = KeySetSettings(ca_file=settings.ca_file, insecure_fetch_over_plaintext=True)
            async with RequestAuthenticator(rules, OWN, settings=other, clock=clock, older=older) as newer:
                assert "can't be fetched: wanted status 200, got 503" in await outcome(newer, issuer.token())


async def test_two_rules_of_one_address_share_a_fetch(
    settings: KeySetSettings, clock: ManualClock, issuer: Issuer
) -> None:
    async with key_server() as server:
        server.serve(issuer.jwks())
        rules = [rule_of(server), JwtRule(issuer="https://second.test", jwks_uri=f"{server.address}/jwks")]
        async with RequestAuthenticator(rules, OWN, settings=settings, clock=clock) as authenticator:
            assert await outcome(authenticator, issuer.token()) == "https://issuer.test/alice"
            second = replace(issuer, name="https://second.test")
            assert await outcome(authenticator, second.token()) == "https://second.test/alice"
        assert server.served == 1


async def test_plaintext_on_loopback_is_fetched_from(clock: ManualClock, issuer: Issuer) -> None:
    async with key_server(tls=False) as server:
        server.serve(issuer.jwks())
        async with RequestAuthenticator([rule_of(server)], OWN, clock=clock) as authenticator:
            assert await outcome(authenticator, issuer.token()) == "https://issuer.test/alice"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (
            "http://keys.test/jwks",
            "wanted https:// for a key set on another host, got 'http://keys.test/jwks': an attacker on the"
            " network path could sign tokens; insecure_fetch_over_plaintext allows it",
        ),
        ("ftp://127.0.0.1/jwks", "wanted an https:// address of a key set, got 'ftp://127.0.0.1/jwks'"),
        ("/jwks", "wanted an https:// address of a key set, got '/jwks'"),
        (
            "https://u:p@keys.test/",
            "wanted an address of a key set without spaces and passwords, got 'https://…@keys.test/'",
        ),
    ],
)
def test_an_address_that_is_not_safe_is_refused(uri: str, why: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RequestAuthenticator([JwtRule(issuer="i", jwks_uri=uri)], OWN)
    assert str(caught.value) == f"RequestAuthentication, issuer 'i': {why}"


def test_plaintext_to_another_host_needs_a_loud_permission() -> None:
    settings = KeySetSettings(insecure_fetch_over_plaintext=True)
    RequestAuthenticator([JwtRule(issuer="i", jwks_uri="http://keys.test/jwks")], OWN, settings=settings)


async def test_a_file_is_read_again_when_it_changes(tmp_path: Path, clock: ManualClock, issuer: Issuer) -> None:
    file, rotated = tmp_path / "jwks.json", replace(issuer, key=signing_key("P-256", 1), key_id="two")
    file.write_text(issuer.jwks())
    rule = JwtRule(issuer=issuer.name, jwks_file=str(file))

    async def polled() -> None:
        for _ in range(2):  # a change counts once two polls see it
            await clock.until_sleepers()
            clock.advance(1.0)
        await clock.until_sleepers()

    async with RequestAuthenticator([rule], OWN, clock=clock) as authenticator:
        assert await outcome(authenticator, issuer.token()) == "https://issuer.test/alice"
        file.write_text(rotated.jwks())
        await polled()
        assert await outcome(authenticator, rotated.token()) == "https://issuer.test/alice"
        assert "no key 'one'" in await outcome(authenticator, issuer.token())
        file.write_text("{}")
        await polled()
        assert authenticator.complaints == (
            f"{file}: wanted a JWK set, a JSON object with an array 'keys', got {{}}; the key set in use stays",
        )
        assert await outcome(authenticator, rotated.token()) == "https://issuer.test/alice"


def test_each_rule_with_a_bad_key_set_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    rules = [
        JwtRule(issuer="a", jwks="{}"),
        JwtRule(issuer="b", jwks_file=str(missing)),
        JwtRule(issuer="c"),
        JwtRule(issuer="spiffe://example.org"),
    ]
    with pytest.raises(ConfigError) as caught:
        RequestAuthenticator(rules, OWN)
    assert caught.value.problems == (
        "RequestAuthentication, issuer 'a': wanted a JWK set, a JSON object with an array 'keys', got {}",
        f"RequestAuthentication, issuer 'b': {missing}: wanted a JWK set: No such file or directory",
        "RequestAuthentication, issuer 'c': wanted one of jwks, jwksUri and jwksFile, or spiffe:// and a trust domain"
        " as the issuer",
    )


@pytest.mark.parametrize("uri", [None, "spiffe://example.org"])
async def test_jwt_svids_are_verified_by_the_newest_bundles(uri: str | None, clock: ManualClock) -> None:
    def bundles(name: str) -> BundleSet:
        return BundleSet([TrustBundle(TrustDomain("example.org"), (), {"k": key(name).public_key()})])

    def broken() -> BundleSet:
        raise LocalIdentityError("withdrawn")

    current = bundles("jwt")
    caller = SpiffeId.parse("spiffe://example.org/web")
    svid = sign(caller, [str(OWN)], key=key("jwt"), key_id="k", now=clock.now(), ttl=timedelta(minutes=5)).token
    rule = JwtRule(issuer="spiffe://example.org", jwks_uri=uri)
    async with RequestAuthenticator([rule], OWN, bundles=lambda: current, clock=clock) as authenticator:
        assert await outcome(authenticator, svid) == f"spiffe://example.org/{caller}"
        current = bundles("other")
        assert "its signature was not made by key 'k'" in await outcome(authenticator, svid)
    async with RequestAuthenticator([rule], OWN, bundles=broken, clock=clock) as authenticator:
        assert await outcome(authenticator, svid) == (
            "JWT of issuer 'spiffe://example.org': there are no JWT bundles: withdrawn"
        )
    async with RequestAuthenticator([rule], OWN, clock=clock) as authenticator:
        assert await outcome(authenticator, svid) == (
            "JWT of issuer 'spiffe://example.org': no Workload API is used here, whose JWT bundles would have the keys"
        )
