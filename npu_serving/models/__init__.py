"""Models on disk: their layout, and the names they may have."""
