"""Requests of live traffic kept in a file, beside what passes on unchanged; what such a file holds."""
