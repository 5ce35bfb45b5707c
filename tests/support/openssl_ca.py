"""CAs that are not ours, made by ``openssl``: what an operator puts into the files of an upstream authority."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

__all__ = ["EXTENSIONS", "OpensslCa"]

#: Those of a CA, in the form of ``openssl``.
EXTENSIONS = "basicConstraints=critical,CA:true\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"


@dataclass(frozen=True, slots=True)
class OpensslCa:
    """A CA in ``name.pem`` with its key in ``name.key``."""

    directory: Path
    name: str
    above: OpensslCa | None = None

    @property
    def cert(self) -> Path:
        return self.directory / f"{self.name}.pem"

    @property
    def key(self) -> Path:
        return self.directory / f"{self.name}.key"

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.cert.read_bytes())

    @property
    def root(self) -> OpensslCa:
        return self.above.root if self.above else self

    @classmethod
    def make(cls, directory: Path, name: str, above: OpensslCa | None = None, *, more: str = "") -> OpensslCa:
        """A new one with a P-256 key, signed by ``above`` or by itself; ``more`` are the lines of its extensions."""
        made = cls(directory, name, above)
        _openssl("ecparam", "-name", "prime256v1", "-genkey", "-out", made.key)
        made.key.chmod(0o600)
        request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
        _openssl("req", "-new", "-key", made.key, "-subj", f"/O=Acme/CN={name}", "-out", request)
        extensions.write_text(more or EXTENSIONS)
        signer = ("-CA", above.cert, "-CAkey", above.key) if above else ("-signkey", made.key)
        serial = ("-CAcreateserial",) if above else ()
        with_extensions = ("-extfile", extensions, "-days", "3650", "-out", made.cert)
        _openssl("x509", "-req", "-in", request, *signer, *serial, *with_extensions)
        return made

    def key_as(self, form: str) -> Path:
        """Its key in another form: pkcs8 or sec1."""
        path = self.directory / f"{self.name}.{form}"
        if form == "pkcs8":
            _openssl("pkcs8", "-topk8", "-nocrypt", "-in", self.key, "-out", path)
        else:
            _openssl("ec", "-in", self.key, "-out", path)
        path.chmod(0o600)
        return path


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
