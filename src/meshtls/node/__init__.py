"""The JSON-over-stdio adapter: a message a line in, a reply a line out, real mutual TLS connections behind them."""
