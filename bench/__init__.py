"""Measures pairs of proxies that speak mutual TLS to each other: meshtls and its peers, in the same run."""
