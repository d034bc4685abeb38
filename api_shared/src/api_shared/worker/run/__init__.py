"""The way of one job through a worker, step by step."""
