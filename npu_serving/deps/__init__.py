"""The dependencies of a serving tree: the lock that lists them, the fetcher, the store."""
