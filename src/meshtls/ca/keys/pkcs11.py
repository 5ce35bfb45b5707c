"""A PKCS#11 token, such as a hardware security module, that generates keys and signs with them; they never leave it.

python-pkcs11 initializes a module without telling it of threads, so even calls in different sessions must not run at
the same time: one thread makes all of them, and each Token has one session. A module's handles end in a forked child
and when the token is taken away; the next call then initializes the module again and logs in.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.keys.token_keys import TokenEcKey, TokenRsaKey
from meshtls.ca.profile import PublicKey
from meshtls.errors import ConfigError, TokenError
from meshtls.private_files import read_secret
from meshtls.svid.x509 import PrivateKey

if TYPE_CHECKING:
    import pkcs11

__all__ = ["Pin", "Token"]

T = TypeVar("T")

_RETRY_SECONDS = 1.0
_CURVES: Mapping[KeyAlgorithm, ec.EllipticCurve] = {
    KeyAlgorithm.P256: ec.SECP256R1(),
    KeyAlgorithm.P384: ec.SECP384R1(),
}


class _Modules:
    """The thread of all calls, and how often a module was initialized: handles of before are other objects' now.

    A module that uses OpenSSL, as SoftHSM does, leaves errors in OpenSSL's queue of the thread that calls it, and
    ``ssl`` takes them for its own: its next call in that thread raises SSLError, though nothing is wrong.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._thread = _new_thread()
        os.register_at_fork(after_in_child=self._forked)

    def run(self, act: Callable[[], T]) -> T:
        """The result of ``act`` in that thread. Calls that wait for it are made in their order."""
        return self._thread.submit(act).result()

    def _forked(self) -> None:
        self._thread = _new_thread()  # a child has no other thread than the one that forked
        self.generation += 1


def _new_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "pkcs11")


_modules = _Modules()


@dataclass(frozen=True, slots=True)
class Pin:
    """Where the token's PIN is: in a file that only this user can read, or else in an environment variable."""

    file: Path | None = None
    variable: str = ""

    def read(self) -> str:
        """The PIN. Raises ConfigError, which never quotes it, where there is none."""
        if self.file is None:
            if text := os.environ.get(self.variable, ""):
                return text
            raise ConfigError(f"{self}: wanted the token's PIN, got nothing; set the variable")
        try:
            text = read_secret(self.file, "the token's PIN").decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self}: wanted a PIN in UTF-8, got other bytes") from error
        if not text:
            raise ConfigError(f"{self}: wanted the token's PIN, got an empty file")
        return text

    def __str__(self) -> str:
        return str(self.file) if self.file is not None else f"environment variable {self.variable}"


class Token:
    """The token with this label in the PKCS#11 module (a shared library) at this path. Opened by the first call.

    Raises ConfigError where python-pkcs11 is not installed. Methods raise TokenError while the token can't be used,
    and at once, without asking it again, within a second after that. A PIN that the token has refused is not sent to it
    again, since a token locks itself after a few wrong ones.
    """

    def __init__(self, module: Path, label: str, pin: Pin, monotonic: Callable[[], float] = time.monotonic) -> None:
        try:
            import pkcs11
        except ImportError as error:
            raise ConfigError(
                "keys in a PKCS#11 token need python-pkcs11; install it with: pip install 'meshtls[hsm]'"
            ) from error
        self._api: Any = pkcs11
        self._module = module
        self._label = label
        self._pin = pin
        self._monotonic = monotonic
        self._session: pkcs11.Session | None = None
        self._handles: dict[bytes, Any] = {}
        self._generation = -1
        self._process = os.getpid()
        self._refused_pin: str | None = None
        self._failed: tuple[float, TokenError] | None = None

    def generate(self, algorithm: KeyAlgorithm, label: str) -> PrivateKey:
        """A new key pair, which is stored in the token and never leaves it. Raises TokenError."""
        return self._use(lambda session: self._generated(session, algorithm, label))

    def find(self, public_key: PublicKey) -> PrivateKey:
        """The private key to this one. Raises ConfigError if the token hasn't got it, TokenError."""
        return self._key(public_key, self._use(lambda session: self._id_of(session, public_key)))

    def destroy(self, key: TokenEcKey | TokenRsaKey) -> None:
        """Delete this key pair, if it is there. Raises TokenError."""

        def act(session: pkcs11.Session) -> None:
            self._handles.pop(key.id, None)
            for one in list(session.get_objects({self._api.Attribute.ID: key.id})):
                one.destroy()

        self._use(act)

    def close(self) -> None:
        """End the session, and with it the login."""
        _modules.run(self._forget)

    def __str__(self) -> str:
        return f"token {self._label} of {self._module}"

    def __repr__(self) -> str:
        return f"<Token {self._label} of {self._module} [{'closed' if self._session is None else 'open'}]>"

    def _sign(self, key_id: bytes, mechanism: str, data: bytes) -> bytes:
        def act(session: pkcs11.Session) -> bytes:
            signature: bytes = self._handle(session, key_id).sign(data, mechanism=self._api.Mechanism[mechanism])
            return signature

        return self._use(act)

    def _use(self, act: Callable[[pkcs11.Session], T]) -> T:
        """The result of ``act``: in the present session; if that fails, in a new one; or by the module anew."""
        return _modules.run(lambda: self._in_session(act))

    def _in_session(self, act: Callable[[pkcs11.Session], T]) -> T:
        if self._failed and self._monotonic() < self._failed[0] + _RETRY_SECONDS:
            raise self._failed[1]
        self._failed = None
        if self._session is not None and self._generation == _modules.generation:
            with contextlib.suppress(self._api.PKCS11Error):
                return act(self._session)
        with contextlib.suppress(self._api.PKCS11Error):
            return act(self._opened(anew=False))
        try:
            return act(self._opened(anew=True))
        except self._api.NoSuchKey as error:
            raise ConfigError(f"{self}: wanted a key that it hasn't got; give the token that has it") from error
        except self._api.PKCS11Error as error:
            self._forget()
            what = f"{type(error).__name__} {error}".strip()
            failed = TokenError(
                f"{self}: wanted a token that can be used, got {what}; connect it, or correct module and token;"
                " it is tried again with the next request"
            )
            self._failed = self._monotonic(), failed
            raise failed from error

    def _opened(self, *, anew: bool) -> pkcs11.Session:
        self._forget()
        api = self._api
        pin = self._pin.read()
        if pin == self._refused_pin:
            raise TokenError(f"{self}: it has refused the PIN in {self._pin}, which is not sent again; correct the PIN")
        module = api.lib(str(self._module))
        if anew or self._process != os.getpid():
            _modules.generation += 1
            with contextlib.suppress(api.PKCS11Error):
                module.finalize()
            module.initialize()
            self._process = os.getpid()
        token = module.get_token(token_label=self._label)
        try:
            self._session = token.open(rw=True, user_pin=pin)
        except api.UserAlreadyLoggedIn:  # by this process: the login is the token's, not the session's
            self._session = token.open(rw=True)
        except (api.PinIncorrect, api.PinInvalid, api.PinLenRange) as error:
            self._refused_pin = pin
            raise TokenError(f"{self}: it refuses the PIN in {self._pin}; correct the PIN") from error
        self._generation = _modules.generation
        return self._session

    def _forget(self) -> None:
        session, self._session = self._session, None
        self._handles.clear()
        if session is not None and self._generation == _modules.generation:
            with contextlib.suppress(self._api.PKCS11Error):
                session.close()

    def _generated(self, session: pkcs11.Session, algorithm: KeyAlgorithm, label: str) -> PrivateKey:
        api, attribute = self._api, self._api.Attribute
        key_id = secrets.token_bytes(16)
        common = {
            "id": key_id,
            "label": label,
            "store": True,
            "capabilities": api.MechanismFlag.SIGN | api.MechanismFlag.VERIFY,
            "private_template": {attribute.PRIVATE: True, attribute.SENSITIVE: True, attribute.EXTRACTABLE: False},
        }
        curve = _CURVES.get(algorithm)
        if curve is None:
            public, private = session.generate_keypair(api.KeyType.RSA, algorithm.rsa_bits, **common)
        else:
            parameters = {attribute.EC_PARAMS: api.util.ec.encode_named_curve_parameters(curve.name)}
            domain = session.create_domain_parameters(api.KeyType.EC, parameters, local=True)
            public, private = domain.generate_keypair(**common)
        if not private[attribute.NEVER_EXTRACTABLE] or not private[attribute.ALWAYS_SENSITIVE]:
            private.destroy()
            public.destroy()
            raise ConfigError(f"{self}: wanted a key that never leaves it, got an extractable one; use another token")
        self._handles[key_id] = private
        if curve is None:
            modulus, exponent = public[attribute.MODULUS], public[attribute.PUBLIC_EXPONENT]
            numbers = rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus))
            return self._key(numbers.public_key(), key_id)
        return self._key(
            ec.EllipticCurvePublicKey.from_encoded_point(curve, _point(public[attribute.EC_POINT])), key_id
        )

    def _id_of(self, session: pkcs11.Session, public_key: PublicKey) -> bytes:
        attribute = self._api.Attribute
        wanted: dict[Any, Any] = {attribute.CLASS: self._api.ObjectClass.PUBLIC_KEY}
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            wanted[attribute.KEY_TYPE] = self._api.KeyType.EC
        else:
            wanted[attribute.MODULUS] = public_key.public_numbers().n.to_bytes(public_key.key_size // 8)
        for one in list(session.get_objects(wanted)):
            if isinstance(public_key, ec.EllipticCurvePublicKey) and _point(one[attribute.EC_POINT]) != (
                public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            ):
                continue
            key_id: bytes = one[attribute.ID]
            self._handle(session, key_id)
            return key_id
        raise self._api.NoSuchKey

    def _handle(self, session: pkcs11.Session, key_id: bytes) -> Any:
        if key_id not in self._handles:
            wanted = {self._api.Attribute.CLASS: self._api.ObjectClass.PRIVATE_KEY, self._api.Attribute.ID: key_id}
            found = list(session.get_objects(wanted))
            if not found:
                raise self._api.NoSuchKey
            self._handles[key_id] = found[0]
        return self._handles[key_id]

    def _key(self, public_key: PublicKey, key_id: bytes) -> PrivateKey:
        if isinstance(public_key, ec.EllipticCurvePublicKey):
            return TokenEcKey(public_key, key_id, self._sign)
        return TokenRsaKey(public_key, key_id, self._sign)


def _point(attribute: bytes) -> bytes:
    """The uncompressed point of CKA_EC_POINT: by PKCS#11 in a DER OCTET STRING; some tokens leave that out."""
    return attribute[2:] if attribute[0] == 0x04 and attribute[1] == len(attribute) - 2 else attribute
