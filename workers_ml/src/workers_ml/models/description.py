"""The JSON files of a model: the description of a version, and the list of kept versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from workers_ml.models.errors import ModelRefused

FORMAT = 1
MAX_JSON_BYTES = 64 * 1024 * 1024
MAX_CLASSES = 100_000

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^[0-9]{6}-[0-9a-f]{8}$")]
Count = Annotated[int, Field(ge=0, lt=2**48)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def encode(self) -> bytes:
        return self.model_dump_json(indent=1).encode()


class Weights(_Part):
    """The file of weights, with the size and the hash it must have."""

    sha256: Sha256
    size_bytes: Count
    features: Annotated[int, Field(ge=1, lt=2**32)]


class Description(_Part):
    """All of a model except its weights. `features` names how texts become numbers."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    version: Version
    created_at: Annotated[datetime, Field(strict=False)]
    features: Annotated[str, Field(max_length=200)]
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=MAX_CLASSES, strict=False)]
    temperature: Annotated[float, Field(gt=0, le=1e6)]
    weights: Weights
    trained_on: Count
    held_out: Count
    accuracy: Annotated[float, Field(ge=0, le=1)]
    macro_f1: Annotated[float, Field(ge=0, le=1)]


class Kept(_Part):
    version: Version
    sha256: Sha256
    """Of its description."""


class Current(_Part):
    """The versions that are kept, the newest last, which is the version in force."""

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)] = FORMAT
    kept: Annotated[tuple[Kept, ...], Field(max_length=1000, strict=False)] = ()
    last_number: Count = 0
    """The number of the newest version ever: it is not reused after models are deleted."""


def decode_description(key: str, content: bytes) -> Description:
    """Raises `ModelRefused`."""
    try:
        return Description.model_validate_json(content)
    except ValidationError as error:
        raise ModelRefused(key, _first_problem(error)) from None


def decode_current(key: str, content: bytes) -> Current:
    """Raises `ModelRefused`."""
    try:
        return Current.model_validate_json(content)
    except ValidationError as error:
        raise ModelRefused(key, _first_problem(error)) from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'it'}: {first['msg']}"
