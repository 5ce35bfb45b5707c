"""A whole mesh of real processes under friendly and hostile load, whose server and agent are killed again and again."""
