"""The files that a server is deployed with."""
