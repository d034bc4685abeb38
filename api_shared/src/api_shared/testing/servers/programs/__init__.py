"""Server programs from wheels and Debian packages, kept in a cache."""
