"""The ML worker."""
