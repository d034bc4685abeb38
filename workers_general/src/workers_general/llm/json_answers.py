"""Valid JSON from a model: requested with a schema, validated, and requested again if invalid."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files

from api_shared.worker.context import JobContext
from workers_general.llm.call_journal import call_key, derive_seed
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
"""How many characters of an invalid answer are shown to the model."""

Chat = Callable[[str, ChatRequest], Awaitable[ChatAnswer]]


class JsonAsker:
    """
    Requests for JSON of one job.

    Each try is a call of its own in the journal, so that every output can be inspected. Once all
    tries are used up the journal says so: a job that is requeued after it has failed makes new
    calls, and does not get its old invalid answers again.
    """

    def __init__(self, chat: Chat, job: JobContext, *, tries: int) -> None:
        self._chat = chat
        self._job = job
        self._tries = tries
        self._schema_in_words = False

    async def ask(
        self, step: str, request: ChatRequest, schema: JsonSchema, *, server: str
    ) -> JsonAnswer:
        """Raises `InvalidSchema` and `SchemaValidationError`."""
        checked = Schema(schema)
        asked = replace(request, schema=checked.json)
        spent_key = call_key(step, {"spent": checked.json})
        tries_used = int(self._job.recall(spent_key) or 0)
        usage, bad = Usage(), None
        problems: tuple[str, ...] = ()
        for number in range(tries_used, tries_used + self._tries):
            seeded = asked if number == 0 else _seeded(asked, step, number)
            try:
                answer = await self._ask(step, _with_bad_answer(seeded, bad, problems), checked)
            except ContextOverflow:
                if bad is None:
                    raise
                answer = await self._ask(step, seeded, checked)
            usage += answer.usage
            value, problems = checked.read(answer.text)
            is_number = isinstance(value, (int, float))  # it may have had more digits
            if answer.finish_reason == "length" and (problems or is_number):
                problems = ("it was truncated because it was too long: write less",)
            if not problems:
                return JsonAnswer(value, replace(answer, usage=usage), number - tries_used + 1)
            bad = answer.text
        await self._job.record(spent_key, tries_used + self._tries)
        raise SchemaValidationError(server, problems, bad or "", self._tries)

    async def _ask(self, step: str, request: ChatRequest, schema: Schema) -> ChatAnswer:
        """A server that does not accept a schema gets the schema in the prompt."""
        if not self._schema_in_words:
            try:
                return await self._chat(step, request)
            except LLMClientError as error:
                if isinstance(error, AuthenticationError) or error.status not in (400, 422):
                    raise
            self._schema_in_words = True
        return await self._chat(step, _with_schema_in_words(request, schema))


def _seeded(request: ChatRequest, step: str, number: int) -> ChatRequest:
    parameters = replace(request.parameters, seed=derive_seed(step, number))
    return replace(request, parameters=parameters)


def _with_bad_answer(
    request: ChatRequest, bad: str | None, problems: tuple[str, ...]
) -> ChatRequest:
    """The request after an invalid answer: it shows the model its answer and the problems."""
    if bad is None:
        return request
    complaint = _prompt("repair-1.txt").replace("{problems}", "; ".join(problems))
    messages = (Message("assistant", bad[:MAX_SHOWN]), Message("user", complaint))
    return replace(request, messages=(*request.messages, *messages))


def _with_schema_in_words(request: ChatRequest, schema: Schema) -> ChatRequest:
    """The schema within the system message: some chat templates allow only one of these."""
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
