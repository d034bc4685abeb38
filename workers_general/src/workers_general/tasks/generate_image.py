"""The task `generate_image`: it makes images and stores them."""

from __future__ import annotations

from taskiq import TaskiqDepends

from api_shared.broker import broker
from api_shared.contracts.language import GENERATE_IMAGE, GenerateImageArgs, GenerateImageResult
from workers_general.generative.media import make_images
from workers_general.llm.job_llm import llm_of_job
from workers_general.llm.protocol import LLM


@broker.task(GENERATE_IMAGE)
async def generate_image(
    args: GenerateImageArgs, llm: LLM = TaskiqDepends(llm_of_job)
) -> GenerateImageResult:
    return await make_images(llm, args, broker.runtime.settings.llm_image_model)
