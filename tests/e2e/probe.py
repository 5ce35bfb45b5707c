"""Run inside a container, from standard input: connect to a sidecar as no sidecar would, and print the response.

Usage: python3 - HOST PORT plaintext|anonymous|forged
"""

import contextlib
import datetime as dt
import json
import socket
import ssl
import sys
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

REQUEST = b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"
CLAIMED = "spiffe://example.org/ns/default/sa/service-a"


def main() -> None:
    host, port, way = sys.argv[1:]
    received, error = b"", ""
    try:
        with contextlib.ExitStack() as stack:
            plain = stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
            door = plain if way == "plaintext" else stack.enter_context(_context(way).wrap_socket(plain))
            door.sendall(REQUEST)
            while chunk := door.recv(4096):
                received += chunk
    except OSError as caught:
        error = f"{type(caught).__name__}: {caught}"
    json.dump({"received": received.decode("latin-1"), "error": error}, sys.stdout)


def _context(way: str) -> ssl.SSLContext:
    """A client that accepts any server; with `forged`, it presents an SVID of its own CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if way == "forged":
        with tempfile.NamedTemporaryFile() as file:
            file.write(_forged())
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _forged() -> bytes:
    """Key and certificate in PEM: an SVID with service a's ID that is valid but for its signer."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SPIFFE")])
    now = dt.datetime.now(dt.UTC)
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    ) | dict.fromkeys(("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"), False)
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(ca_name)
        .issuer_name(ca_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(seconds=10))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(CLAIMED)]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, pkcs8, serialization.NoEncryption()) + leaf.public_bytes(pem)


main()
