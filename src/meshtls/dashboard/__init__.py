"""``meshtls dashboard``: the mesh in a browser, read from the admin interfaces of its processes."""
