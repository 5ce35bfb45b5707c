"""Who may talk to whom. Pure: a decision is a function of a verified peer and a target."""
