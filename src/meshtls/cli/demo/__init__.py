"""`meshtls up` and `meshtls app`: a whole mesh in one process, and the app behind each of its sidecars."""
