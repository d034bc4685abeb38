"""Images and speech by a model server, as files in the storage."""

from __future__ import annotations

import asyncio
import wave
from dataclasses import asdict

from api_shared.contracts.language import (
    GenerateImageArgs,
    GenerateImageResult,
    GenerateSpeechArgs,
    GenerateSpeechResult,
    StoredFile,
)
from api_shared.storage import Storage
from workers_general.llm.protocol import LLM, ImageRequest, SpeechRequest, Stored

WAV = "audio/wav"
BACKEND = "openai"
"""Images and speech have one API, whatever LLM_BACKEND is."""


async def make_images(llm: LLM, args: GenerateImageArgs, model: str | None) -> GenerateImageResult:
    """`model` is the requested model."""
    images = await llm.image("image", ImageRequest(args.prompt, args.size, args.n))
    return GenerateImageResult(
        backend=BACKEND, model=model, images=[_reference(image) for image in images]
    )


async def speak(
    llm: LLM, args: GenerateSpeechArgs, model: str | None, storage: Storage
) -> GenerateSpeechResult:
    """`storage` has the audio: its duration is read from the file."""
    audio = await llm.speech("speech", SpeechRequest(args.text, args.voice, args.format))
    duration_s = await asyncio.to_thread(duration_of, storage, audio)
    return GenerateSpeechResult(
        backend=BACKEND, model=model, audio=_reference(audio), duration_s=duration_s
    )


def duration_of(storage: Storage, audio: Stored) -> float | None:
    """
    In seconds, from the header of a WAV file; None for all other formats.

    A server that streams writes the header before it knows the length: the file's size is a limit.
    """
    if audio.content_type != WAV:
        return None
    try:
        with storage.local(audio.key) as path, wave.open(str(path), "rb") as file:
            frame_bytes = file.getnchannels() * file.getsampwidth()
            most = path.stat().st_size // frame_bytes
            frames: int = min(file.getnframes(), most)
            return round(frames / file.getframerate(), 3)
    except (wave.Error, EOFError, ZeroDivisionError):
        return None


def _reference(stored: Stored) -> StoredFile:
    return StoredFile(**asdict(stored))
