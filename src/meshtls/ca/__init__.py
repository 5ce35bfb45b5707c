"""The CA: certificate templates, the authority that signs, and where its keys live."""
