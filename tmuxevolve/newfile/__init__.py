"""A sessions.yaml for what is in a folder: the look around, and the text."""
