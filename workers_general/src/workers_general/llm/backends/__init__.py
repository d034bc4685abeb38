"""Model servers: the calls, streams and errors of each kind."""
