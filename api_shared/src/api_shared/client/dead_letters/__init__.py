"""Dead letters: read, judged, requeued and purged."""
