"""The worker process: its start, its signals, its end."""
