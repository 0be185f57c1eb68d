"""A running server: how it is started, whether it is ready, and the golden requests that prove it."""
