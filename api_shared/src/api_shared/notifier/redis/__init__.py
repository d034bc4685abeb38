"""The notifier on Redis."""
