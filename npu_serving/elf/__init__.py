"""ELF files: reading them, and telling whether a server will load an adapter."""
