"""Wire formats without I/O: bytes in, values and bytes out. Nothing here imports asyncio, ``ssl`` or a socket."""
