"""The worker process itself: its start, its signals, its end."""
