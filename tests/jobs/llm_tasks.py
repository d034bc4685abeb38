"""Tasks that call a model, for tests with real worker processes."""

from __future__ import annotations

from taskiq import TaskiqDepends

from api_shared.worker.context import JobContext
from jobs.broker import broker
from workers_general.llm import LLM, ChatRequest, Message, llm_of_job


def request_of(text: str) -> ChatRequest:
    return ChatRequest((Message("user", text),))


@broker.task(task_name="ask_parts", timeout=120, soft_timeout=110, backoff_s=0.1)
async def ask_parts(
    name: str,
    parts: int,
    job: JobContext = TaskiqDepends(),
    llm: LLM = TaskiqDepends(llm_of_job),
) -> list[str]:
    """One call after the other; the parts tell themselves in their prompts."""
    answers = []
    for number in range(parts):
        answer = await llm.chat(f"part-{number}", request_of(f"{name} {number}"))
        answers.append(answer.text)
        job.progress(number + 1, parts)
    return answers
