"""Schedules: jobs that run regularly, and their records in the ledger."""
