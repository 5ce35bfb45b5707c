"""The CA's memory in SQL: registration entries, agents, join tokens, bundles, authorities and every issuance."""
