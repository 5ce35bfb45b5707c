"""JWTs and JWK sets of an issuer of our own."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

__all__ = ["Issuer", "segment", "signing_key"]

Key = RSAKey | ECKey | OKPKey


@cache
def signing_key(kind: str, number: int = 0) -> Key:
    """A private key of this kind, ``RSA``, ``P-256``, ``P-384``, ``P-521`` or ``Ed25519``; another for each number."""
    if kind == "RSA":
        return RSAKey.generate_key(2048)
    return OKPKey.generate_key("Ed25519") if kind == "Ed25519" else ECKey.generate_key(kind)


def segment(content: object) -> str:
    """A part of a JWS: these bytes, or this as JSON, in base64url."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class Issuer:
    """Signs tokens as of ``now`` that live for ``life`` seconds."""

    name: str
    now: datetime
    key: Key = field(default_factory=lambda: signing_key("P-256"))
    key_id: str | None = "one"
    algorithm: str = "ES256"
    life: int = 300

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a good token, with these changes; None removes one."""
        now = int(self.now.timestamp())
        claims = {"iss": self.name, "sub": "alice", "aud": ["shop"], "iat": now, "exp": now + self.life}
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """A signed token; ``header`` changes members of its header."""
        return self.signed(self.header(**(header or {})), json.dumps(self.claims(**changes)).encode())

    def token_with(self, name: str, value: object) -> str:
        """A signed token in which this claim is the value, which None makes null."""
        return self.signed(self.header(), json.dumps(self.claims() | {name: value}).encode())

    def header(self, **changes: Any) -> dict[str, Any]:
        members = {"alg": self.algorithm, "typ": "JWT", "kid": self.key_id} | changes
        return {name: value for name, value in members.items() if value is not None}

    def signed(self, header: dict[str, Any], payload: bytes) -> str:
        name = "Ed25519" if self.algorithm == "EdDSA" else self.algorithm
        model = jws.JWSRegistry(algorithms=[name]).get_alg(name)
        signed = f"{segment(header)}.{segment(payload)}"
        return f"{signed}.{segment(model.sign(signed.encode(), self.key))}"

    def jwk(self, **changes: Any) -> dict[str, Any]:
        members = {**self.key.as_dict(private=False), "kid": self.key_id, "use": "sig"} | changes
        return {name: value for name, value in members.items() if value is not None}

    def jwks(self, **changes: Any) -> str:
        return json.dumps({"keys": [self.jwk(**changes)]})

    def later(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)
