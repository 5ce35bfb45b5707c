"""Where a library needs more than an SSLContext. Each module here imports its library; the rest of meshtls doesn't."""
