"""Capture files: pcap and pcapng, plain or gzip, read as a stream and written. Pure, but for ``opening``."""
