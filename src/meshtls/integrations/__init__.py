"""Adapters for libraries that need more than an SSLContext. Only the module of a library imports it."""
