"""
The contracts of the general worker's language tasks.

Every result says how it was made: `backend` (LLM_BACKEND; `extractive` if no server is set),
`model` (the server's own name for it), `prompt` (name and version of the prompt file).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from api_shared.client.contract import Contract
from api_shared.contracts.general import Arguments

MAX_TEXT = 1_000_000
MAX_SPEECH_TEXT = 4096
"""The longest text that servers of `/v1/audio/speech` accept."""

Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$")]
"""A language tag, such as `de` or `pt-BR`."""

Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT, pattern=r"\S")]


class GenerationParameters(Arguments):
    """Parameters of generation. For each that is left out: the setting (LLM_TEMPERATURE, …)."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    seed: int | None = Field(None, ge=0, lt=2**31)
    stop: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = Field((), max_length=4)


class TokenUsage(BaseModel):
    """Tokens by the server's own count; 0 if it reported none."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class MadeBy(BaseModel):
    """The origin of a result. `model` and `prompt` are None if no model was used."""

    backend: str
    model: str | None = None
    prompt: str | None = None


class SummarizeTextArgs(Arguments):
    """
    `max_length` is in words, and is never exceeded. `language` is that of the summary; None: that
    of the text. Without a model the summary is sentences of the text, whatever `language` is.
    """

    text: Text
    max_length: int = Field(150, ge=5, le=5000)
    language: Language | None = None
    parameters: GenerationParameters = GenerationParameters()


class SummarizeTextResult(MadeBy):
    """
    Lengths are in words (in Chinese and Japanese, in characters); `compression_ratio` is
    summary_length / original_length.

    `method` is `model`, or `extractive`: whole sentences of the text, chosen by a graph ranking.
    `language` is the requested language, else the language of the text, detected by its stop words
    (None: the text is too short to detect it). `cut`: the model wrote more than `max_length`, or
    was cut off; the rest was left out. `parts` is the number of parts at the first of `levels`.
    """

    summary: str
    original_length: int
    summary_length: int
    compression_ratio: float
    method: Literal["model", "extractive"]
    language: str | None = None
    cut: bool = False
    parts: int = 1
    levels: int = 1


class ExtractKeywordsArgs(Arguments):
    """`language` as in `summarize_text`; without a model it chooses the stop words."""

    text: Text
    max_keywords: int = Field(10, ge=1, le=100)
    language: Language | None = None
    parameters: GenerationParameters = GenerationParameters()


class ExtractKeywordsResult(MadeBy):
    """
    `scores[i]` belongs to `keywords[i]`, the best first, from 0 to 1. `score` names their kind:
    `model_rating` is the relevance by the model; `graph_rank` is the rank of the keyword's words in
    the graph of words and sentences, as a share of that of the best keyword.

    `language` is as in `summarize_text`. `parts` is the number of parts of the text.
    """

    keywords: list[str]
    scores: list[float]
    count: int
    score: Literal["model_rating", "graph_rank"]
    method: Literal["model", "extractive"]
    language: str | None = None
    parts: int = 1


class HasSchema(Arguments):
    """The base of arguments with a JSON Schema; the name `schema` is taken by pydantic."""

    model_config = ConfigDict(
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )


class NormalizeJsonArgs(HasSchema):
    """
    `request` is a text or JSON that is to be normalized to `schema` (JSON Schema).

    With `samples` over 1 the model is called that often, and the most frequent answer is taken.
    `language` is that of the texts in the result; None: that of the request.
    """

    request: JsonValue
    json_schema: dict[str, JsonValue] = Field(alias="schema")
    language: Language | None = None
    samples: int = Field(1, ge=1, le=9)
    parameters: GenerationParameters = GenerationParameters()

    @field_validator("request")
    @classmethod
    def _check_request(cls, value: JsonValue) -> JsonValue:
        if value is None or value in ("", {}, []):
            raise ValueError("nothing to normalise")
        return value


class NormalizeJsonResult(MadeBy):
    """
    `normalized` is valid against the schema. `confidence_from` is the kind of `confidence`, 0 to 1:

    `agreement`: the share of the samples with this value;
    `token_probability`: the geometric mean of the probabilities that the model gave to the tokens
    of its answer (one sample, and a server that reports them).
    Both None: one sample, and the server reports no probabilities. `language` is the requested one.
    """

    normalized: JsonValue
    confidence: float | None = None
    confidence_from: Literal["agreement", "token_probability"] | None = None
    language: str | None = None
    samples: int = 1


class ChatMessage(Arguments):
    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=MAX_TEXT)


class GenerateTextArgs(HasSchema):
    """
    Exactly one of `prompt` and `messages`. With `schema` (JSON Schema) the text is JSON that is
    valid against it. With `stream` the text can be read while it is written (`handle.stream()`).
    """

    prompt: Text | None = None
    messages: tuple[ChatMessage, ...] = Field((), max_length=1000)
    parameters: GenerationParameters = GenerationParameters()
    json_schema: dict[str, JsonValue] | None = Field(None, alias="schema")
    stream: bool = False

    @model_validator(mode="after")
    def _check_prompt(self) -> GenerateTextArgs:
        if (self.prompt is None) == (not self.messages):
            raise ValueError("exactly one of prompt and messages must be given")
        if self.stream and self.json_schema is not None:
            raise ValueError(
                "stream and schema must not be given together: streamed text is not validated yet"
            )
        return self


class GenerateTextResult(MadeBy):
    """
    `finish_reason` is the server's: `stop`, or `length` if the text was cut at max_tokens.
    `value` is the JSON of the text if a schema was given.
    """

    text: str
    usage: TokenUsage
    finish_reason: str
    value: JsonValue = None


class StoredFile(BaseModel):
    """A file in the storage (STORAGE_URL) under `key`; `sha256` is of its bytes, in hex."""

    key: str
    content_type: str
    sha256: str
    size_bytes: int


class GenerateImageArgs(Arguments):
    """`size` is WIDTHxHEIGHT in pixels. The sizes depend on the server."""

    prompt: str = Field(min_length=1, max_length=32_000, pattern=r"\S")
    size: str = Field("1024x1024", pattern=r"^[1-9]\d{1,4}x[1-9]\d{1,4}$")
    n: int = Field(1, ge=1, le=10)


class GenerateImageResult(MadeBy):
    """`model` is the requested one (LLM_IMAGE_MODEL); None: the server's own choice."""

    images: list[StoredFile]


class GenerateSpeechArgs(Arguments):
    """`voice` is a voice of the server."""

    text: str = Field(min_length=1, pattern=r"\S")
    voice: str = Field("alloy", min_length=1, max_length=100)
    format: Literal["wav", "mp3", "flac", "opus", "aac"] = "wav"

    @field_validator("text")
    @classmethod
    def _check_length(cls, value: str) -> str:
        if len(value) > MAX_SPEECH_TEXT:
            raise ValueError(
                f"{len(value):,} characters, over the {MAX_SPEECH_TEXT:,} that speech servers take:"
                f" split it at sentence bounds, and kiq a job for each part"
            )
        return value


class GenerateSpeechResult(MadeBy):
    """
    `duration_s` is read from the file; None for formats other than WAV.

    `model` is the requested one (LLM_SPEECH_MODEL); None: the server's own choice.
    """

    audio: StoredFile
    duration_s: float | None = None


class ProcessJobArgs(Arguments):
    """`job_id` is the `_id` of a record in the collection `requests` (see docs/llm.md)."""

    job_id: str = Field(min_length=1, max_length=200)


class ProcessJobResult(BaseModel):
    """`result` is that of the task that the record's `kind` names. The record has it too."""

    job_id: str
    kind: Literal["text", "image", "audio"]
    result: dict[str, Any]


SUMMARIZE_TEXT = Contract(
    "summarize_text",
    SummarizeTextArgs,
    SummarizeTextResult,
    queue="summarize",
    soft_limit_s=3300,
    hard_limit_s=3600,
    backoff_s=10,
)
EXTRACT_KEYWORDS = Contract(
    "extract_keywords",
    ExtractKeywordsArgs,
    ExtractKeywordsResult,
    queue="keywords",
    soft_limit_s=1700,
    hard_limit_s=1800,
    backoff_s=10,
)
NORMALIZE_JSON = Contract(
    "normalize_json",
    NormalizeJsonArgs,
    NormalizeJsonResult,
    queue="normalize",
    soft_limit_s=840,
    hard_limit_s=900,
    backoff_s=10,
)
GENERATE_TEXT = Contract(
    "generate_text",
    GenerateTextArgs,
    GenerateTextResult,
    queue="ai_jobs",
    soft_limit_s=1700,
    hard_limit_s=1800,
    backoff_s=10,
)
GENERATE_IMAGE = Contract(
    "generate_image",
    GenerateImageArgs,
    GenerateImageResult,
    queue="ai_jobs",
    soft_limit_s=1700,
    hard_limit_s=1800,
    backoff_s=10,
)
GENERATE_SPEECH = Contract(
    "generate_speech",
    GenerateSpeechArgs,
    GenerateSpeechResult,
    queue="ai_jobs",
    soft_limit_s=840,
    hard_limit_s=900,
    backoff_s=10,
)
PROCESS_JOB = Contract(
    "process_job",
    ProcessJobArgs,
    ProcessJobResult,
    queue="ai_jobs",
    soft_limit_s=1700,
    hard_limit_s=1800,
    backoff_s=10,
)

CONTRACTS = (
    SUMMARIZE_TEXT,
    EXTRACT_KEYWORDS,
    NORMALIZE_JSON,
    GENERATE_TEXT,
    GENERATE_IMAGE,
    GENERATE_SPEECH,
    PROCESS_JOB,
)
