"""A whole mesh in one thread, on a clock, a network and disks that a seed decides.

The servers, agents and workloads are the real ones: their decisions, stores, state tables and protocol messages. What
is replaced is below them: the event loop (``loop``), the files and the driver of SQLite (``disk``), and the bytes of
TLS and HTTP/2 (``network``). ``world`` lets them run, breaks what the seed says, and checks at each step what must
never happen.
"""
