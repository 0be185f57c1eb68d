"""What runs on this machine, and how it differs from its deployment."""
