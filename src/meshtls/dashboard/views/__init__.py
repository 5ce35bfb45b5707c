"""The dashboard's pages as JSON: each is a function of the model. Pure."""
