"""Certificate revocation lists (RFC 5280) and OCSP (RFC 6960): build, parse, index and judge. Pure."""
