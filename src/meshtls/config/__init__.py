"""Configuration files: documents, the keys that are declared for them, and the reading of one by the other."""
