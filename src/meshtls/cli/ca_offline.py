"""``meshtls ca root``, ``csr``, ``sign`` and ``install``: CAs below an offline root, its key in a file or a token."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.ca.csr import MAX_REQUEST_BYTES, check_public_key
from meshtls.ca.keys.key_file import contents_of, read_key
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.keys.pkcs11 import Pin, Token
from meshtls.ca.offline import ca_request, read_certificates, sign_request
from meshtls.ca.profile import CaSubject, PublicKey, Signer, root_certificate
from meshtls.cli.options import DURATION, TRUST_DOMAIN, config_option, output_option
from meshtls.cli.output import Output
from meshtls.cli.records import moment
from meshtls.cli.svid_files import publish
from meshtls.clock import SystemClock
from meshtls.errors import ConfigError, RequestError
from meshtls.private_files import replace_secrets
from meshtls.spiffeid import TrustDomain
from meshtls.svid.x509 import PrivateKey, format_serial

__all__ = ["csr", "install", "root", "sign"]

F = TypeVar("F", bound=Callable[..., Any])

_MAX_CHAIN_BYTES = 256 << 10
_path = click.Path(path_type=Path, dir_okay=False)
_out = click.option("--out", "target", type=_path, required=True, help="The file to write.")
_force = click.option("--force", is_flag=True, help="Replace the file of --out if there is one.")
_names = click.option("--organization", default="meshtls", show_default=True, help="The organization in its subject.")
_common_name = click.option("--common-name", default="", help="The common name; default: what the certificate is for.")
_key_type = click.option(
    "--key-type",
    type=click.Choice([one.value for one in KeyAlgorithm]),
    default=KeyAlgorithm.P256.value,
    show_default=True,
    help="The kind of key to generate.",
)


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where a key is: in a file, or in a token."""

    file: Path | None
    token: Token | None

    def generate(self, algorithm: KeyAlgorithm, label: str) -> PrivateKey:
        if self.token:
            return self.token.generate(algorithm, label)
        assert self.file is not None  # noqa: S101  # one of the two is given
        if self.file.exists():
            raise ConfigError(f"{self.file}: wanted a new file for the key, got one that is there; name another one")
        key = algorithm.generate()
        replace_secrets({self.file: contents_of(key)})
        return key

    def find(self, public_key: PublicKey) -> PrivateKey:
        """The issuer's private key, which belongs to this public key. Raises ConfigError."""
        if self.token:
            return self.token.find(public_key)
        assert self.file is not None  # noqa: S101  # one of the two is given
        key = read_key(self.file, mend="give the issuer's private key")
        if key.public_key() != public_key:
            raise ConfigError(f"{self.file}: wanted the private key of the issuer's certificate, got another key")
        return key


def _key_options(*, required: bool = True) -> Callable[[F], F]:
    """Options for the place of a key, which the verb is given as ``place``."""

    def decorate(verb: F) -> F:
        @click.option("--key", "key_file", type=_path, help="The file with the private key, or for a new one.")
        @click.option("--module", type=_path, help="The PKCS#11 module of a token with the key.")
        @click.option("--token", "label", help="The token's label.")
        @click.option("--pin-file", type=_path, help="The file with the token's PIN.")
        @click.option("--pin-env", help="The environment variable with the token's PIN.")
        @wraps(verb)
        def with_place(
            key_file: Path | None,
            module: Path | None,
            label: str | None,
            pin_file: Path | None,
            pin_env: str | None,
            **others: Any,
        ) -> Any:
            if module is None and label is None and pin_file is None and pin_env is None:
                if key_file is None and required:
                    raise click.UsageError("wanted --key, or a token: --module, --token and --pin-file or --pin-env")
                return verb(place=KeyPlace(key_file, None) if key_file else None, **others)
            if key_file is not None or module is None or not label or (pin_file is None) is (not pin_env):
                raise click.UsageError("a token is --module, --token and one of --pin-file and --pin-env; no --key")
            token = Token(module, label, Pin(pin_file, pin_env or ""))
            with contextlib.closing(token):
                return verb(place=KeyPlace(None, token), **others)

        return with_place  # type: ignore[return-value]  # it takes the options instead of ``place``

    return decorate


@click.command()
@_out
@_key_options()
@_key_type
@click.option("--ttl", type=DURATION, default="87600h", show_default=True, help="How long it is valid.")
@click.option("--trust-domain", type=TRUST_DOMAIN, help="Its trust domain; default: it may be the root of several.")
@_names
@_common_name
@output_option
def root(
    out: Output,
    target: Path,
    place: KeyPlace,
    key_type: str,
    ttl: timedelta,
    trust_domain: TrustDomain | None,
    organization: str,
    common_name: str,
) -> None:
    """Generate a root's key, in a file or in a token, and write the root's certificate."""
    if target.exists():
        raise ConfigError(f"{target}: wanted a new file for the root, got one that is there; name another one")
    key = place.generate(KeyAlgorithm(key_type), "meshtls root")
    subject = CaSubject((), (organization,), common_name)
    made = root_certificate(trust_domain, key, SystemClock().now(), ttl, subject)
    publish(target, made.public_bytes(Encoding.PEM), "the root")
    out.record(_told(made, target))


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="The server's file: request the CA of this server.")
@click.option("--trust-domain", type=TRUST_DOMAIN, help="Without --config: the trust domain of the CA.")
@_key_options(required=False)
@_key_type
@_out
@_force
@output_option
def csr(
    out: Output,
    target: Path,
    force: bool,
    config: Path | None,
    trust_domain: TrustDomain | None,
    place: KeyPlace | None,
    key_type: str,
) -> None:
    """Request a CA: for a server whose root is offline, or with a key of its own.

    Until it is installed, the server's request stays the same.
    """
    _check_new(target, "the request", force=force)
    if config is not None and trust_domain is None and place is None:
        from meshtls.server.config import load_config
        from meshtls.server.keys import opened_in_token
        from meshtls.server.offline_root import request_ca

        loaded = load_config(config)
        with opened_in_token(loaded) as in_token:
            request = request_ca(loaded, in_token)
        domain = loaded.trust_domain
    elif config is None and trust_domain is not None and place is not None:
        request = ca_request(trust_domain, place.generate(KeyAlgorithm(key_type), "meshtls intermediate"))
        domain = trust_domain
    else:
        raise click.UsageError("wanted --config, or --trust-domain and the place of a new key")
    publish(target, request, "the request")
    out.record({"trust_domain": str(domain), "file": str(target)})


@click.command()
@click.argument("request", type=_path)
@click.option("--issuer", type=_path, required=True, help="The issuer's certificate, and what is above it.")
@_key_options()
@click.option("--trust-domain", type=TRUST_DOMAIN, required=True, help="The trust domain of the CA.")
@click.option(
    "--path-length", type=click.IntRange(0, 6), default=0, show_default=True, help="How many CAs may be below it."
)
@click.option("--ttl", type=DURATION, required=True, help="How long it is valid, such as 2160h.")
@click.option("--allow-other-trust-domains", is_flag=True, help="Leave out the name constraint.")
@_names
@_common_name
@_out
@_force
@output_option
def sign(
    out: Output,
    request: Path,
    issuer: Path,
    place: KeyPlace,
    trust_domain: TrustDomain,
    path_length: int,
    ttl: timedelta,
    allow_other_trust_domains: bool,
    organization: str,
    common_name: str,
    target: Path,
    force: bool,
) -> None:
    """Sign the REQUEST of a CA, and write its certificate with all that is above it. Needs no server."""
    _check_new(target, "the chain", force=force)
    with _named(issuer):
        certificate, *above = read_certificates(_content(issuer, _MAX_CHAIN_BYTES))
        public_key = check_public_key(certificate.public_key())
    key = place.find(public_key)
    with _named(request):
        wanted = _content(request, MAX_REQUEST_BYTES)
    try:
        signed = sign_request(
            wanted,
            Signer(certificate, key, tuple(above)),
            trust_domain,
            SystemClock().now(),
            ttl,
            path_length=path_length,
            constrained=not allow_other_trust_domains,
            named=CaSubject((), (organization,), common_name),
        )
    except RequestError as error:
        raise RequestError(f"{request}: {error}") from error
    except ConfigError as error:
        raise ConfigError(f"{issuer}: {error}") from error
    chain = (signed, certificate, *above)
    publish(target, b"".join(one.public_bytes(Encoding.PEM) for one in chain), "the chain")
    out.record(_told(signed, target) | {"trust_domain": str(trust_domain), "path_length": path_length})


@click.command()
@click.argument("chain", type=_path)
@config_option
@output_option
def install(out: Output, chain: Path, config: Path) -> None:
    """Check the signed CHAIN of the CA that this server has requested, and hand it over.

    A running server takes it within 10 s, another one when it starts. A CA below a new root is prepared: activate it
    with `meshtls authority activate`, or wait.
    """
    from meshtls.server.config import load_config
    from meshtls.server.keys import opened_in_token
    from meshtls.server.offline_root import install_ca

    loaded = load_config(config)
    if not loaded.offline_root:
        raise ConfigError(f"{config}: wanted offline_root: true, got a server that makes its own root")
    with opened_in_token(loaded) as in_token, _named(chain):
        signer = install_ca(loaded, in_token, _content(chain, _MAX_CHAIN_BYTES), SystemClock())
    out.record(_told(signer.certificate, loaded.keys_dir))


def _check_new(target: Path, what: str, *, force: bool) -> None:
    if not force and os.path.lexists(target):
        raise ConfigError(
            f"{target}: wanted a new file for {what}, got one that is there; name another one, or give --force"
        )


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the body name this file."""
    try:
        yield
    except (ConfigError, RequestError) as error:
        text = str(error)
        raise type(error)(text if text.startswith("/") else f"{path}: {text}") from error


def _content(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"can't be read: {error.strerror}") from error
    if len(content) > most:
        raise ConfigError(f"wanted at most {most} bytes, got more")
    return content


def _told(certificate: x509.Certificate, target: Path) -> dict[str, object]:
    return {
        "serial": format_serial(certificate),
        "not_after": moment(certificate.not_valid_after_utc),
        "file": str(target),
    }
