"""What training raises."""

from api_shared.errors import ApiWorkersError


class NotTrainable(ApiWorkersError):
    """The examples cannot make a classifier: the message says what is missing."""
