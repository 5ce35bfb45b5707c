"""Traces: spans of connections and requests, made from their events and sent by OTLP to a collector."""
