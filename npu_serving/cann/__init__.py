"""CANN installations on this machine, and what to do when one was replaced."""
