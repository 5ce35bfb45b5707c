"""What both ends of the mutual TLS pair tell of a connection."""

from __future__ import annotations

import asyncio

from meshtls.cli.output import Record
from meshtls.svid.verify import VerifiedPeer
from meshtls.svid.x509 import X509Svid

__all__ = ["connection_record", "connection_text"]


def connection_record(writer: asyncio.StreamWriter) -> Record:
    """Who is at the other end, and the certificates of this very connection."""
    peer: VerifiedPeer = writer.get_extra_info("peer")
    own: X509Svid = writer.get_extra_info("svid")
    return {
        "peer_id": str(peer.spiffe_id),
        "peer_serial": peer.serial,
        "own_id": str(own.spiffe_id),
        "own_serial": own.serial,
        "tls_version": writer.get_extra_info("ssl_object").version(),
    }


def connection_text(record: Record) -> str:
    """The same for people."""
    return (
        f"peer {record['peer_id']}, serial {record['peer_serial']},"
        f" over {record['tls_version']} with our serial {record['own_serial']}"
    )
