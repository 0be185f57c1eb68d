"""Bringing archives and tools in, verified: content store, engine, mirrors, import by content, serving the store."""
