"""The Python client package, against real services."""
