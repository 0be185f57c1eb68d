"""ELF files: reading them, and predicting whether a server will load an adapter."""
