"""The verbs that ask running processes: admin, tap, top, graph, explain connection."""
