"""JSON that is valid: asked for with its schema, checked here, and asked for again if it is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files

from api_shared.worker.context import JobContext
from workers_general.llm.call_journal import key_of, seed_of
from workers_general.llm.errors import (
    AuthenticationError,
    ContextOverflow,
    LLMClientError,
    SchemaValidationError,
)
from workers_general.llm.protocol import (
    ChatAnswer,
    ChatRequest,
    JsonAnswer,
    JsonSchema,
    Message,
    Usage,
)
from workers_general.llm.schemas import Schema

MAX_SHOWN = 2000
"""Characters of a bad answer that the model is shown."""

Chat = Callable[[str, ChatRequest], Awaitable[ChatAnswer]]


class JsonAsker:
    """
    Each try is a journaled call of its own, so that what a model wrote can be looked at.

    Tries are counted in the journal once they are used up: a job that is put back after it failed
    for good asks anew, and does not get its old bad answers again.
    """

    def __init__(self, chat: Chat, job: JobContext, *, tries: int) -> None:
        self._chat = chat
        self._job = job
        self._tries = tries
        self._in_words = False

    async def ask(
        self, step: str, request: ChatRequest, schema: JsonSchema, *, server: str
    ) -> JsonAnswer:
        """Raises `InvalidSchema` and `SchemaValidationError`."""
        checked = Schema(schema)
        asked = replace(request, schema=checked.json)
        spent_key = key_of(step, {"spent": checked.json})
        spent = int(self._job.recall(spent_key) or 0)
        usage, bad = Usage(), None
        problems: tuple[str, ...] = ()
        for number in range(spent, spent + self._tries):
            seeded = asked if number == 0 else _seeded(asked, step, number)
            try:
                answer = await self._ask(step, _shown(seeded, bad, problems), checked)
            except ContextOverflow:
                if bad is None:
                    raise
                answer = await self._ask(step, seeded, checked)
            usage += answer.usage
            value, problems = checked.read(answer.text)
            is_number = isinstance(value, (int, float))  # it may have had more digits
            if answer.finish_reason == "length" and (problems or is_number):
                problems = ("it was cut because it was too long: write less",)
            if not problems:
                return JsonAnswer(value, replace(answer, usage=usage), number - spent + 1)
            bad = answer.text
        await self._job.record(spent_key, spent + self._tries)
        raise SchemaValidationError(server, problems, bad or "", self._tries)

    async def _ask(self, step: str, request: ChatRequest, schema: Schema) -> ChatAnswer:
        """A server that does not take the schema is told it in words."""
        if not self._in_words:
            try:
                return await self._chat(step, request)
            except LLMClientError as error:
                if isinstance(error, AuthenticationError) or error.status not in (400, 422):
                    raise
            self._in_words = True
        return await self._chat(step, _told(request, schema))


def _seeded(request: ChatRequest, step: str, number: int) -> ChatRequest:
    parameters = replace(request.parameters, seed=seed_of(step, number))
    return replace(request, parameters=parameters)


def _shown(request: ChatRequest, bad: str | None, problems: tuple[str, ...]) -> ChatRequest:
    """The request after a bad answer: the model is shown what it wrote and what is wrong."""
    if bad is None:
        return request
    told = _prompt("repair-1.txt").replace("{problems}", "; ".join(problems))
    messages = (Message("assistant", bad[:MAX_SHOWN]), Message("user", told))
    return replace(request, messages=(*request.messages, *messages))


def _told(request: ChatRequest, schema: Schema) -> ChatRequest:
    """The schema as a part of the system's message: some templates take no second one."""
    words = _prompt("schema-1.txt").replace("{schema}", schema.text)
    first, *others = request.messages
    if first.role == "system":
        messages = (Message("system", f"{first.content}\n\n{words}"), *others)
    else:
        messages = (Message("system", words), *request.messages)
    return replace(request, messages=messages, schema=None)


@cache
def _prompt(name: str) -> str:
    return files(__package__).joinpath("prompts", name).read_text(encoding="utf-8").strip()
