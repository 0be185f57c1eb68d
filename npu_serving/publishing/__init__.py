"""Versions of models put where a server loads them from, and taken back."""
