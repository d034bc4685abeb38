"""The backend of vLLM: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from workers_general.llm.backends.openai import COUNT_OF_VLLM, OpenAIBackend, TokenCounter


class VllmBackend(OpenAIBackend):
    """It needs the model's name in each request, and lists its context size in `/v1/models`."""

    name: ClassVar[str] = "vllm"
    counters: ClassVar[Sequence[TokenCounter]] = (COUNT_OF_VLLM,)
