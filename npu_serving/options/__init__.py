"""What may be set on a server and on the NPU: flags and options, as data."""
