"""A server whose root is offline: it asks for a CA, takes only one that fits, and changes it while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet
from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.key_file import read_key
from meshtls.ca.offline import ca_request, sign_request
from meshtls.ca.profile import Signer, root_certificate, subordinate_certificate
from meshtls.errors import ConfigError, StoreError
from meshtls.observe.audit import AuditRecord
from meshtls.server.config import parse_config
from meshtls.server.keys import opened_in_token, opened_signing
from meshtls.server.offline_root import install_ca, request_ca
from meshtls.server.settings import ServerConfig
from meshtls.server.startup import opened_core
from meshtls.spiffeid import SpiffeId, TrustDomain
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import PrivateKey
from tests.support.agent import eventually
from tests.support.clock import ManualClock
from tests.support.server import TD, full_disk, new_csr, own_authority, started
from tests.support.softhsm import MODULE, soft_hsm

WEB, OTHER = SpiffeId(TD, "/web"), TrustDomain("other.test")
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def new_root(clock: ManualClock, domain: TrustDomain | None = None) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    return Signer(root_certificate(domain, key, clock.now(), 3650 * DAY), key)


def config_in(directory: Path, more: str = "offline_root: true\n") -> ServerConfig:
    directory.mkdir(0o700, exist_ok=True)
    return parse_config("server.yaml", f"trust_domain: {TD}\nbind_port: 0\ndata_dir: {directory}\n{more}")


def signed(
    request: bytes, root: Signer, clock: ManualClock, *, ttl: timedelta = 90 * DAY, domain: TrustDomain = TD
) -> bytes:
    """The chain of a CA that the root signs."""
    certificate = sign_request(request, root, domain, clock.now(), ttl, path_length=0)
    return pem_of([certificate, root.certificate])


def pem_of(certificates: Sequence[x509.Certificate]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def installed(config: ServerConfig, root: Signer, clock: ManualClock, ttl: timedelta = 90 * DAY) -> x509.Certificate:
    """Request, sign and install one more CA."""
    with opened_in_token(config) as in_token:
        request = request_ca(config, in_token)
        return install_ca(config, in_token, signed(request, root, clock, ttl=ttl), clock).certificate


def test_a_server_does_not_start_before_a_ca_is_installed_and_then_signs_with_it(tmp_path: Path) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    with pytest.raises(ConfigError) as refused, opened_signing(config, clock):
        pass
    assert str(refused.value) == (
        "this server's root is offline (offline_root): request a CA with `meshtls ca csr`, sign it with"
        " `meshtls ca sign`, and install it with `meshtls ca install`"
    )
    root = new_root(clock)
    certificate = installed(config, root, clock)
    for _ in range(2):
        with opened_signing(config, clock) as (signing, _keys):
            chain = signing.x509(WEB, new_csr(), HOUR).chain
            assert chain[1] == certificate
            assert own_authority(signing).bundle.x509_authorities == (root.certificate,)
            peer = verify_peer(
                [one.public_bytes(Encoding.DER) for one in chain],
                BundleSet([own_authority(signing).bundle]),
                clock.now(),
            )
            assert peer.spiffe_id == WEB
    secret = {path.name for path in config.keys_dir.iterdir() if b"PRIVATE KEY" in path.read_bytes()}
    assert secret == {"intermediate.pem", "jwt.pem", "log.pem"}


def test_the_key_of_a_requested_ca_may_be_in_a_token(tmp_path: Path) -> None:
    clock = ManualClock()
    with soft_hsm(tmp_path / "hsm") as hsm:
        pkcs11 = f"{{module: {MODULE}, token_label: mesh, pin_file: {hsm.pin_file}, intermediates: true}}"
        config = config_in(tmp_path / "server", f"offline_root: true\nkey_manager: {{pkcs11: {pkcs11}}}\n")
        certificate = installed(config, new_root(clock), clock)
        with opened_signing(config, clock) as (signing, _):
            assert signing.x509(WEB, new_csr(), HOUR).chain[1] == certificate
        assert hsm.objects().count("Private Key Object") == 1
    secret = {path.name for path in config.keys_dir.iterdir() if b"PRIVATE KEY" in path.read_bytes()}
    assert secret == {"jwt.pem", "log.pem"}


def test_a_request_stays_the_same_until_its_ca_is_installed(tmp_path: Path) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    keys = [x509.load_pem_x509_csr(request_ca(config, None)).public_key() for _ in range(2)]
    assert keys[0] == keys[1]
    installed(config, new_root(clock), clock)
    assert x509.load_pem_x509_csr(request_ca(config, None)).public_key() != keys[0]


Spoil = Callable[[PrivateKey, Signer, ManualClock], bytes]


def without_root(key: PrivateKey, root: Signer, clock: ManualClock) -> bytes:
    return pem_of(x509.load_pem_x509_certificates(signed(ca_request(TD, key), root, clock))[:1])


def of_another_root(key: PrivateKey, root: Signer, clock: ManualClock) -> bytes:
    certificate = x509.load_pem_x509_certificates(signed(ca_request(TD, key), root, clock))[0]
    return pem_of([certificate, new_root(clock).certificate])


def ended(key: PrivateKey, root: Signer, clock: ManualClock) -> bytes:
    past = ManualClock(clock.now() - 100 * DAY)
    return signed(ca_request(TD, key), new_root(past), past)


def below_a_leaf_ca(key: PrivateKey, root: Signer, clock: ManualClock) -> bytes:
    """The path lengths of a chain that openssl, say, would sign."""
    middle_key = ec.generate_private_key(ec.SECP256R1())
    middle = x509.load_pem_x509_certificates(signed(ca_request(TD, middle_key), root, clock))[0]
    last = subordinate_certificate(
        TD, check_public_key(key.public_key()), Signer(middle, middle_key), clock.now(), DAY,
        path_length=0, constrained=True,
    )  # fmt: skip
    return pem_of([last, middle, root.certificate])


REFUSED: list[tuple[Spoil, str]] = [
    (lambda key, root, clock: b"no PEM", "wanted certificates in PEM: "),
    (without_root, "wanted the CA's certificate, what is above it, and the root at the end, got no root there"),
    (
        lambda key, root, clock: signed(new_csr(), root, clock),
        "the first certificate is not for the key that was requested; sign the last request",
    ),
    (
        lambda key, root, clock: signed(ca_request(OTHER, key), root, clock, domain=OTHER),
        "wanted a CA of spiffe://example.org, got one of spiffe://other.test; sign it with --trust-domain example.org",
    ),
    (of_another_root, "no peer would accept what this CA signs: "),
    (below_a_leaf_ca, "no peer would accept what this CA signs: "),
    (ended, "the CA is valid from "),
]


@pytest.mark.parametrize(("spoil", "message"), REFUSED)
def test_a_chain_that_does_not_fit_is_refused_and_the_one_that_does_is_installed(
    tmp_path: Path, spoil: Spoil, message: str
) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    root = new_root(clock)
    request = request_ca(config, None)
    key = read_key(config.keys_dir / "requested.pem")
    with pytest.raises(ConfigError) as refused:
        install_ca(config, None, spoil(key, root, clock), clock)
    assert str(refused.value).startswith(message)
    assert [path.name for path in config.keys_dir.iterdir()] == ["requested.pem"]
    install_ca(config, None, signed(request, root, clock), clock)
    assert [path.name for path in config.keys_dir.iterdir()] == ["installed.pem"]


def test_a_chain_is_refused_where_nothing_was_requested(tmp_path: Path) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    installed(config, new_root(clock), clock)
    with pytest.raises(ConfigError, match="requested.pem: no request is open; make one with `meshtls ca csr`"):
        install_ca(config, None, signed(new_csr(), new_root(clock), clock), clock)


def test_a_second_certificate_of_the_same_root_key_is_refused(tmp_path: Path) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    root = new_root(clock)
    installed(config, root, clock)
    with opened_signing(config, clock):
        pass
    again = Signer(root_certificate(None, root.private_key, clock.now(), 3650 * DAY), root.private_key)
    with pytest.raises(ConfigError, match="another certificate of the same root key is there; wanted that one"):
        installed(config, again, clock)
    installed(config, root, clock)


async def test_a_running_server_takes_the_next_ca_and_asks_for_it_after_half_of_the_life(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    root = new_root(clock)
    first = installed(config, root, clock)
    async with started(config, clock) as server:
        clock.advance(50 * 86400)
        await eventually(lambda: "request the next one with `meshtls ca csr`" in caplog.text, clock)
        second = installed(config, root, clock)

        async def signs_with_the_second() -> bool:
            chain = await server.admin.mint_x509(WEB, new_csr(), HOUR, ())
            assert chain[1] in (first, second)
            return chain[1] == second

        await eventually(signs_with_the_second, clock)
        assert len(await server.admin.authorities()) == 2  # one X.509, one JWT
        acts = [AuditRecord.parse(line.record).act async for line in server.admin.audit()]
        assert "install CA of authority" in acts
        assert not (config.keys_dir / "installed.pem").exists()


async def test_an_installed_ca_that_the_store_did_not_take_is_published_once_it_does(tmp_path: Path) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    installed(config, new_root(clock), clock)
    async with opened_core(config, clock) as (core, _):
        root = new_root(clock)
        async with full_disk(core, "authorities"):
            installed(config, root, clock)
            for _ in range(2):
                with pytest.raises(StoreError, match="the disk is full"):
                    await core.authorities.tick()
        await core.authorities.tick()
        assert root.certificate in core.hub.bundle.x509_authorities


async def test_a_ca_below_a_new_root_is_prepared_and_signs_once_it_is_activated(tmp_path: Path) -> None:
    config, clock = config_in(tmp_path / "server"), ManualClock()
    installed(config, new_root(clock), clock)
    async with started(config, clock) as server:
        with pytest.raises(ConfigError, match=r"this server's root is offline \(offline_root\)"):
            await server.admin.prepare_authority("x509")
        second = new_root(clock)
        certificate = installed(config, second, clock)

        async def published() -> bool:
            return second.certificate in (await server.admin.bundle()).x509_authorities

        await eventually(published, clock)
        assert (await server.admin.mint_x509(WEB, new_csr(), HOUR, ()))[1] != certificate
        await server.admin.activate_authority("x509")
        assert (await server.admin.mint_x509(WEB, new_csr(), HOUR, ()))[1] == certificate


def test_an_offline_root_wants_a_place_for_its_ca() -> None:
    with pytest.raises(ConfigError, match=r"^f, line 3: offline_root: wanted key_manager disk or pkcs11"):
        parse_config("f", f"trust_domain: {TD}\nkey_manager: {{memory: {{}}}}\noffline_root: true\n")
    assert parse_config("f", f"trust_domain: {TD}\nkey_manager: {{disk: {{}}}}\noffline_root: true\n").offline_root
