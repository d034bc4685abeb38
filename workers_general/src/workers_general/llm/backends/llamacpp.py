"""
The backend of llama.cpp's own server.

https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from workers_general.llm.backends.openai import COUNT_OF_LLAMACPP, OpenAIBackend, TokenCounter


class LlamaCppBackend(OpenAIBackend):
    """It serves one model, whatever model is named, and answers 503 while it loads the model."""

    name: ClassVar[str] = "llamacpp"
    counters: ClassVar[Sequence[TokenCounter]] = (COUNT_OF_LLAMACPP,)
