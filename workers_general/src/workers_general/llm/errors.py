"""
Errors of calls of a model.

A message names the server (without credentials), what happened and the way out. It never holds a
prompt, a key or an output; where a caller may need those, they are in fields.
"""

from __future__ import annotations

from api_shared.errors import ApiWorkersError, PermanentError, RetryableError


class LLMError(ApiWorkersError):
    """The base of this package's errors; `server` is a URL without credentials."""

    def __init__(self, server: str, message: str) -> None:
        self.server = server
        super().__init__(f"{server}: {message}" if server else message)


# Errors that a retry may fix.


class LLMServerError(LLMError, RetryableError):
    """`status` is None if the answer itself was wrong (truncated, not JSON, an error event)."""

    def __init__(self, server: str, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(server, message)


class SamplingFailed(LLMServerError):
    """The model did not keep to the requested format: with another seed it may."""


class LLMConnectionError(LLMError, RetryableError):
    """No connection, or one that broke off in the middle of the answer."""


class LLMTimeoutError(LLMError, RetryableError):
    """`phase`: connect, first byte, stall (between two bytes) or whole."""

    def __init__(self, server: str, phase: str, limit_s: float, setting: str) -> None:
        self.phase = phase
        self.limit_s = limit_s
        super().__init__(
            server,
            f"nothing within {limit_s:g} s ({phase}): the server is slow, or raise {setting}",
        )


class RateLimitError(LLMError, RetryableError):
    """The server refuses more calls for now; `retry_after_s` is None if it did not say how long."""

    def __init__(self, server: str, status: int, retry_after_s: float | None) -> None:
        self.status = status
        self.retry_after_s = retry_after_s
        when = "" if retry_after_s is None else f" for {retry_after_s:g} s"
        super().__init__(
            server,
            f"asks to be left alone{when} (status {status}): "
            f"if this is frequent, lower LLM_MAX_IN_FLIGHT or LLM_REQUESTS_PER_MINUTE",
        )


# Errors that no retry can fix.


class LLMClientError(LLMError, PermanentError):
    """The server refuses the request; `kind` is its reason, `param` the field that it names."""

    def __init__(
        self, server: str, message: str, *, status: int, kind: str = "", param: str = ""
    ) -> None:
        self.status = status
        self.kind = kind
        self.param = param
        super().__init__(server, message)


class AuthenticationError(LLMClientError):
    """401 or 403."""

    def __init__(self, server: str, status: int) -> None:
        way_out = "set LLM_API_KEY" if status == 401 else "this LLM_API_KEY is not authorized"
        super().__init__(server, f"refuses our key (status {status}): {way_out}", status=status)


class InvalidInputError(LLMError, PermanentError):
    """The input of the job cannot be processed."""


class ContextOverflow(InvalidInputError):
    """The prompt is longer than the model's context; sizes are None if the server did not say."""

    def __init__(self, server: str, prompt_tokens: int | None, context_tokens: int | None) -> None:
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens
        sizes = ""
        if prompt_tokens is not None and context_tokens is not None:
            sizes = f" of {prompt_tokens:,} tokens, over {context_tokens:,}"
        super().__init__(
            server,
            f"the prompt{sizes} does not fit the model's context: shorten it, or start the server "
            f"with a larger one",
        )


class InvalidSchema(InvalidInputError):
    """The caller's JSON Schema is invalid, or too complex."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__("", f"the schema cannot be used: {problem}")


class SchemaValidationError(LLMError, PermanentError):
    """
    The model gave no output that is valid against the schema, in `tries` tries.

    `problems` are lines without values; `raw` is the last output, kept in the job's journal too.
    """

    def __init__(self, server: str, problems: tuple[str, ...], raw: str, tries: int) -> None:
        self.problems = problems
        self.raw = raw
        self.tries = tries
        super().__init__(
            server,
            f"no valid output in {tries} tries ({'; '.join(problems)}): "
            f"simplify the schema, raise max_tokens, or use a larger model",
        )


class ModelRequired(LLMError, PermanentError):
    """The task needs a model, and no server is set."""

    def __init__(self, what: str, setting: str = "LLM_SERVER_URL") -> None:
        self.what = what
        super().__init__(
            "",
            f"{what} needs a model: set {setting} to the URL of an OpenAI-compatible server "
            f"(llama.cpp, vLLM, a hosted API), and LLM_API_KEY if it needs a key",
        )
