"""The CA of a server whose root is offline: requested here, signed where the root is, and installed here.

``requested.pem`` has the key of the request, and ``installed.pem`` the signed CA with its key, what is above it, and at
the end the root. The server takes that file at its next look, so that it needs no restart.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.bundle import BundleSet, TrustBundle
from meshtls.ca.csr import check_public_key
from meshtls.ca.keys.disk import MAX_PATH, InToken, contents_of_signer, new_key, parse_signer
from meshtls.ca.keys.key_file import contents_of, read_key
from meshtls.ca.keys.manager import Slot
from meshtls.ca.offline import ca_request, read_certificates
from meshtls.ca.profile import Signer, leaf_certificate
from meshtls.clock import Clock
from meshtls.errors import ConfigError, PeerError, RequestError
from meshtls.private_files import private_directory, replace_secrets
from meshtls.registration import server_id
from meshtls.server.settings import ServerConfig
from meshtls.svid.leaf_rules import uri_names
from meshtls.svid.verify import verify_peer
from meshtls.svid.x509 import format_moment, key_id_of

__all__ = ["INSTALLED", "install_ca", "read_installed", "request_ca"]

INSTALLED, _REQUESTED = "installed.pem", "requested.pem"
_PROBE = timedelta(minutes=1)


def request_ca(config: ServerConfig, in_token: InToken | None) -> bytes:
    """A request in PEM for the CA of this server. Its key is generated unless a request is open already.

    Raises ConfigError.
    """
    path = config.keys_dir / _REQUESTED
    private_directory(config.data_dir)
    private_directory(config.keys_dir)
    if path.exists():
        key = read_key(path, in_token.token if in_token else None)
    else:
        key = new_key(Slot.INTERMEDIATE, config.ca_key_type, in_token)
        replace_secrets({path: contents_of(key)})
    return ca_request(config.trust_domain, key)


def install_ca(config: ServerConfig, in_token: InToken | None, pem: bytes, clock: Clock) -> Signer:
    """Check the signed chain, and leave it where the server takes it. ``pem``: the CA, what is above it, and the root.

    Raises ConfigError where no request is open, or where the chain does not fit it, the trust domain, or what a peer
    accepts.
    """
    requested = config.keys_dir / _REQUESTED
    if not requested.exists():
        raise ConfigError(f"{requested}: no request is open; make one with `meshtls ca csr`, and have that signed")
    key = read_key(requested, in_token.token if in_token else None)
    [certificate, *above], root = _split(pem)
    if certificate.public_key() != key.public_key():
        raise ConfigError("the first certificate is not for the key that was requested; sign the last request")
    names, wanted = uri_names(certificate), str(config.trust_domain.id)
    if names != [wanted]:
        raise ConfigError(
            f"wanted a CA of {wanted}, got one of {', '.join(names) or 'no name'};"
            f" sign it with --trust-domain {config.trust_domain}"
        )
    signer = Signer(certificate, key, tuple(above))
    _check_as_a_peer(config, signer, root, clock)
    _check_is_no_other(config, root)
    replace_secrets({config.keys_dir / INSTALLED: contents_of_signer(signer) + root.public_bytes(Encoding.PEM)})
    requested.unlink(missing_ok=True)
    return signer


def read_installed(path: Path, in_token: InToken | None) -> tuple[Signer, x509.Certificate]:
    """The CA that was left, and the root. Raises ConfigError."""
    [certificate, *above, root], key = parse_signer(path, most=MAX_PATH + 1)
    if key is None:
        if in_token is None:
            raise ConfigError(f"{path}: its private key is in a token; configure key_manager.pkcs11 to use it")
        key = in_token.token.find(check_public_key(certificate.public_key()))
    return Signer(certificate, key, tuple(above)), root


def _split(pem: bytes) -> tuple[list[x509.Certificate], x509.Certificate]:
    *chain, root = read_certificates(pem)
    if not chain or root.subject != root.issuer:
        raise ConfigError("wanted the CA's certificate, what is above it, and the root at the end, got no root there")
    if len(chain) > MAX_PATH:
        raise ConfigError(f"wanted at most {MAX_PATH} certificates below the root, got {len(chain)}")
    return chain, root


def _check_as_a_peer(config: ServerConfig, signer: Signer, root: x509.Certificate, clock: Clock) -> None:
    """Sign a leaf, which is discarded, and verify it: signatures, times, path lengths and name constraints fit."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    now = clock.now()
    first, last = signer.certificate.not_valid_before_utc, signer.certificate.not_valid_after_utc
    if not first <= now < last:
        raise ConfigError(
            f"the CA is valid from {format_moment(first)} to {format_moment(last)}; our clock says {format_moment(now)}"
        )
    try:
        leaf = leaf_certificate(server_id(config.trust_domain), key, (), signer, now, _PROBE)
        chain = (leaf, signer.certificate, *signer.above)
        bundle = BundleSet([TrustBundle(config.trust_domain, (root,))])
        verify_peer([one.public_bytes(Encoding.DER) for one in chain], bundle, now)
    except (PeerError, RequestError) as error:
        raise ConfigError(f"no peer would accept what this CA signs: {error}") from error


def _check_is_no_other(config: ServerConfig, root: x509.Certificate) -> None:
    for path in (config.keys_dir / "root.pem", *config.keys_dir.glob("x509-*/root.pem")):
        if path.exists():
            [present], _ = parse_signer(path, most=1)
            if present != root and key_id_of(present) == key_id_of(root):
                raise ConfigError(
                    f"{path}: another certificate of the same root key is there; wanted that one, or a root with a"
                    " new key"
                )
