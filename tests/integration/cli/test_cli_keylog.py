"""``meshtls sidecar run`` writes TLS secrets only if both the file and the command line ask for it."""

from __future__ import annotations

from pathlib import Path

from tests.integration.cli.identity_site import tell

SIDECAR = """
name: web
spiffe_id: spiffe://a.test/web
outbound:
  - {listen: "127.0.0.1:0", to: "127.0.0.1:1", peer: "spiffe://a.test/db"}
insecure_keylog_file: keys.log
"""


def test_the_key_alone_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(SIDECAR)
    told = tell("sidecar", "run", "--config", file)
    assert (told.code, told.err) == (
        2,
        f"meshtls: {file}: insecure_keylog_file: it lets whoever reads {tmp_path / 'keys.log'} decrypt every"
        " connection; remove the key, or run with --allow-insecure-keylog while you debug\n",
    )
    assert not (tmp_path / "keys.log").exists()


def test_validate_has_a_notice(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(SIDECAR)
    told = tell("sidecar", "validate", "--config", file)
    notice = (
        f"  insecure_keylog_file: INSECURE: the secrets of each TLS connection are written to {tmp_path / 'keys.log'};"
        " remove the key when you are done\n"
    )
    assert (told.code, notice in told.out) == (0, True)
