"""Fetching archives and tools, verified: content store, engine, mirrors, import by content, serving the store."""
