"""The scenarios of `kiq chaos`, a file each."""
