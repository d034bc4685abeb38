"""`kiq dlq`: dead letters listed, shown, requeued and purged."""
