"""Scenarios in which workers and their processes break."""
