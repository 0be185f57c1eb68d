"""Requests sent to a server of its own: the golden ones, those that fill caches, those that warm up."""
