"""Running the server that was built."""
