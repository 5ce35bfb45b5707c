"""Reads the bundle that a verb is given, in the form that an option names."""

from __future__ import annotations

import sys
from pathlib import Path

from meshtls.bundle import TrustBundle
from meshtls.errors import BundleError, ConfigError
from meshtls.regular_files import read_regular
from meshtls.spiffeid import TrustDomain

__all__ = ["read_bundle"]


def read_bundle(trust_domain: TrustDomain, path: Path, form: str, option: str) -> TrustBundle:
    """The bundle in this file, "-" for standard input. ``form``: pem or spiffe, as ``option`` says.

    Raises ConfigError if it can't be read, BundleError if it is no bundle of this form, with advice where it has the
    other one.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else read_regular(path)
    except OSError as error:
        raise ConfigError(f"{path}: wanted a bundle to read: {error.strerror}") from error
    try:
        return (TrustBundle.from_pem if form == "pem" else TrustBundle.from_jwks)(trust_domain, content)
    except BundleError as error:
        has = "spiffe" if content.lstrip().startswith(b"{") else "pem"
        advice = f"; give {option} {has}" if has != form and (has == "spiffe" or b"-----BEGIN " in content) else ""
        raise BundleError(f"{name}: {error}{advice}") from error
