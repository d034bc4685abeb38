"""Scenarios in which jobs and messages meet races and wrong input."""
