"""What docs/revocation.md says of ``ssl``: it has no OCSP stapling. A Python that gains it fails here."""

from __future__ import annotations

import ssl


def test_ssl_has_no_ocsp() -> None:
    names = {name.lower() for owner in (ssl, ssl.SSLContext, ssl.SSLObject, ssl.SSLSocket) for name in dir(owner)}
    assert not [name for name in names if "ocsp" in name or "stapl" in name]


def test_ssl_has_crl_flags_that_hold_for_a_whole_context() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    assert context.verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    assert not hasattr(ssl.SSLObject, "verify_flags")
