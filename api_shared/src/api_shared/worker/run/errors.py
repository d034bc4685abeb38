"""Errors of the way of a job."""

from __future__ import annotations

from taskiq.exceptions import NoResultError


class NotOurs(NoResultError):
    """This delivery gives no job to run here; whoever guards the job has it."""
