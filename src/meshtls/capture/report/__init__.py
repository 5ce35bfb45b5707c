"""Connections of captures as one HTML page."""
