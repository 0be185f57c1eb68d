"""The operators of the adapter; a script for inference calls none of them."""
