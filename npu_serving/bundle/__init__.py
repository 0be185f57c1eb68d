"""The air gap: all that a build needs in one file, and out of it again on a machine without network."""
