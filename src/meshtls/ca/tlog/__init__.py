"""A transparency log: RFC 6962's Merkle tree in C2SP's tlog-tiles layout, with signed checkpoints. No I/O."""
