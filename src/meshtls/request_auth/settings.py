"""How key sets are fetched, as keys of a configuration file. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from meshtls.config.keys import FLAG, PATH, Key

__all__ = ["LENIENT", "KeySetSettings"]


class KeySetSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where rules name a ``jwksUri``."""

    ca_file: Annotated[
        Path | None,
        Key("Certificates in PEM that verify the server of a jwksUri.", PATH, default="those of the system"),
    ] = None
    insecure_fetch_over_plaintext: Annotated[
        bool,
        Key(
            "A jwksUri may be http:// to another host: an attacker on the network path can then sign tokens."
            " Loopback may be http:// in any case.",
            FLAG,
        ),
    ] = False


#: For a check before it is known who will fetch, and with which permissions.
LENIENT = KeySetSettings(insecure_fetch_over_plaintext=True)
