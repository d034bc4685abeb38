"""Errors of training."""

from api_shared.errors import ApiWorkersError


class NotTrainable(ApiWorkersError):
    """No classifier can be trained on the examples; the message says what is missing."""
