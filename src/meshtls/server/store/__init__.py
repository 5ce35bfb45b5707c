"""The server's data in SQL: registration entries, agents, join tokens, bundles, authorities and every issuance."""
