"""Who may talk to whom. Pure: a decision is a function of a request, or of a verified peer and a target."""
