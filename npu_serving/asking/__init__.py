"""Talking to a running server, and what it is expected to answer."""
