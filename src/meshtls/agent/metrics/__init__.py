"""An agent's metrics: their declarations, what counts them, and what a scrape finds out by asking."""
