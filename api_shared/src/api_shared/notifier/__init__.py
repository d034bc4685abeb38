"""The notifier: publishes what becomes of jobs, live, to whoever listens."""
