"""Limits of model servers, shared by all workers."""
