"""A deployment examined before anything starts."""
