"""The check of `kiq doctor`: whether the model server answers with its model loaded."""

from __future__ import annotations

import asyncio

from api_shared.doctor import Finding, Findings
from api_shared.settings import Settings
from workers_general.llm.backends.client import new_client
from workers_general.llm.errors import AuthenticationError, LLMClientError, LLMError
from workers_general.llm.models import chat_backend

LLM = Findings("llm")
ANSWER_S = 20.0


async def check_llm(settings: Settings) -> list[Finding]:
    """One call of one token; no call if no server is set."""
    async with new_client() as client:
        backend = chat_backend(client, settings)
        if backend is None:
            return [LLM.ok("no model server is set: summaries and keywords are extractive")]
        where = f"{backend.name} at {backend.server}"
        try:
            async with asyncio.timeout(ANSWER_S):
                probed = await backend.probe()
        except AuthenticationError as error:
            return [LLM.bad(str(error), "correct LLM_API_KEY")]
        except LLMClientError as error:
            return [LLM.bad(str(error), "correct LLM_MODEL, or LLM_SERVER_URL")]
        except (LLMError, TimeoutError) as error:
            text = str(error) or f"{where} gave no token within {ANSWER_S:g} s"
            remedy = (
                "jobs that need the model wait and retry: start it, or correct LLM_SERVER_URL, "
                f"now {backend.server}"
            )
            return [LLM.away(text, remedy)]
    return [LLM.ok(f"{where} has {probed.model} loaded: {probed.detail}")]
