"""What happened, said once: one result a connection, from which log, metric and reply are made."""
