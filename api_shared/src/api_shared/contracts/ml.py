"""The contracts of the ML worker."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from api_shared.contracts.contract import Contract
from api_shared.contracts.general import Arguments


class TrainModelArgs(Arguments):
    """
    A linear support vector machine on one of scikit-learn's own data sets.

    `folds` is the number of cross-validation folds; `repeats` trains that often with other seeds.
    """

    dataset: Literal["digits", "wine", "breast_cancer"] = "digits"
    c: float = Field(1.0, gt=0, le=1e6)
    folds: int = Field(5, ge=2, le=20)
    repeats: int = Field(1, ge=1, le=1000)
    seed: int = Field(0, ge=0, lt=2**32)


class TrainModelResult(BaseModel):
    """Accuracy and macro-F1 on the folds held out, mean over all of them; in 0..1."""

    dataset: str
    documents: int
    features: int
    classes: int
    accuracy: float
    macro_f1: float
    fits: int


TRAIN_MODEL = Contract(
    "train_model",
    TrainModelArgs,
    TrainModelResult,
    broker="ml",
    queue="training",
    soft_limit_s=3 * 3600,
    hard_limit_s=4 * 3600,
    memory_limit_mb=4096,
)

CONTRACTS = (TRAIN_MODEL,)
