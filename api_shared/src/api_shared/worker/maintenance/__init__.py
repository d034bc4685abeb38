"""Maintenance: overdue jobs, periodic jobs and dead letters."""
