"""MongoDB as a private server, or as a replica set of several."""
