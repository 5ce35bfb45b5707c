"""Randomness that a seed decides: keys, serials, tokens and ids, for the run's time."""

from __future__ import annotations

import contextlib
import random
import secrets
import uuid
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["chosen_by"]


@contextlib.contextmanager
def chosen_by(choices: random.Random) -> Iterator[None]:
    """While the body runs, this makes the keys and all other random values of the program."""

    def new_key(curve: ec.EllipticCurve, backend: Any = None) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(choices.getrandbits(255) + 1, curve)

    kept = (ec.generate_private_key, secrets.randbits, secrets.token_hex, secrets.token_urlsafe, uuid.uuid4)
    replaced: Any = ec, secrets, uuid
    keys, values, ids = replaced
    keys.generate_private_key = new_key
    values.randbits = choices.getrandbits
    values.token_hex = lambda size: choices.randbytes(size).hex()
    values.token_urlsafe = lambda size: choices.randbytes(size).hex()
    ids.uuid4 = lambda: uuid.UUID(int=choices.getrandbits(128), version=4)
    try:
        yield
    finally:
        (keys.generate_private_key, values.randbits, values.token_hex, values.token_urlsafe, ids.uuid4) = kept
