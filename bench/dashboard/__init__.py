"""A dashboard of 500 workloads and 10,000 live connections: what it costs, and how soon a page is there."""
