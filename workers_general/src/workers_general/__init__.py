"""The general worker."""
