"""What a server's run has written: dumps, profiles, graphs."""
