"""meshtls: a SPIFFE service mesh in one pip install."""
