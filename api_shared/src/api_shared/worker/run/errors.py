"""Errors of the run of a job."""

from __future__ import annotations

from taskiq.exceptions import NoResultError


class NotOurs(NoResultError):
    """This delivery has no job to run here; its job is guarded elsewhere."""
