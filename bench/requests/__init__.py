"""What an HTTP request costs through a pair of proxies with mutual TLS and one rule for requests."""
