"""The rules on a version of a model: what a server would fail at, or do unasked."""
