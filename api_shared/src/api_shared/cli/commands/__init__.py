"""The commands of `kiq`, a module or a package each."""
