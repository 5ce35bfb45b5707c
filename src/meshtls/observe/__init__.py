"""What happened: one result for each connection, from which the access log, metrics and replies are derived."""
