"""Schedules: what runs regularly, and what the ledger remembers of it."""
