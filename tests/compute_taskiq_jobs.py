"""A synchronous function that Taskiq has decorated, and so renamed."""

from taskiq import InMemoryBroker

broker = InMemoryBroker()


@broker.task
def double(number: int) -> int:
    return 2 * number
