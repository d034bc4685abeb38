"""The rows of `kiq chaos`, a file each."""
