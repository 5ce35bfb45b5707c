"""A sidecar's metrics: their declarations, what counts them from the stream of events, and the answer to a scrape."""
