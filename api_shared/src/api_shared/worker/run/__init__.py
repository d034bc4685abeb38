"""The run of one job in a worker, step by step."""
