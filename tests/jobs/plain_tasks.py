"""A module that `taskiq worker jobs.discovered:broker -fsd -tp …/plain_*.py` finds."""

from jobs.discovered import broker


@broker.task(task_name="found")
async def found() -> str:
    return "found"
