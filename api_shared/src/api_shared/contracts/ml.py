"""The contracts of the ML worker: train, predict, infer; those of its index are in `ml_index`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from api_shared.client.contract import Contract
from api_shared.contracts.general import Arguments
from api_shared.contracts.ml_index import INDEX_CONTRACTS, ProjectId

MODEL_ID = r"^[A-Za-z0-9_][A-Za-z0-9_.=@+-]{0,149}$"
"""The id of a project, for its current model, or `project@version`, for one that never changes."""
MAX_PATH = 4096
MAX_IDS = 100_000


class DocumentOptions(Arguments):
    """Options of reading documents: their keys or columns, and how much may be malformed."""

    id_field: str = Field("id", min_length=1, max_length=200)
    text_field: str = Field("text", min_length=1, max_length=200)
    group_field: str = Field("group", min_length=1, max_length=200)
    max_malformed_share: float = Field(0.01, ge=0, le=1)


class ModelOptions(Arguments):
    """`min_df` is the least number of documents that a word must be in to count."""

    algorithm: Literal["linear_svm"] = "linear_svm"
    min_df: int = Field(2, ge=1, le=1_000_000)


class Hyperparameters(Arguments):
    """
    `c` weighs errors against simplicity. A project's model is scored on `hold_out_share` of the
    documents; a named data set by cross-validation in `folds`, `repeats` times.
    """

    c: float = Field(1.0, gt=0, le=1e6)
    seed: int = Field(0, ge=0, lt=2**31)
    hold_out_share: float = Field(0.2, gt=0, le=0.5)
    folds: int = Field(5, ge=2, le=20)
    repeats: int = Field(1, ge=1, le=1000)


class TrainModelArgs(Arguments):
    """
    A linear support vector machine: on a project's labelled documents, or on a data set that comes
    with scikit-learn (`dataset_id`, which keeps no model).

    `labels_path` is a TSV: `document_id<TAB>label`, and optionally a group as third column. The
    documents come from the project's index, or from `documents_path`; `document_ids` picks some.
    `model_config` is called `model_options` in Python, where pydantic has its own.
    """

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    project_id: ProjectId | None = None
    labels_path: str | None = Field(None, min_length=1, max_length=MAX_PATH)
    documents_path: str | None = Field(None, min_length=1, max_length=MAX_PATH)
    document_ids: tuple[str, ...] | None = Field(None, min_length=1, max_length=MAX_IDS)
    documents: DocumentOptions = DocumentOptions()
    dataset_id: Literal["digits", "wine", "breast_cancer"] | None = None
    model_options: ModelOptions = Field(ModelOptions(), alias="model_config")
    hyperparameters: Hyperparameters = Hyperparameters()

    @model_validator(mode="after")
    def _check_source(self) -> TrainModelArgs:
        if (self.project_id is None) == (self.dataset_id is None):
            raise ValueError("exactly one of project_id and dataset_id must be given")
        if (self.project_id is None) != (self.labels_path is None):
            raise ValueError("project_id and labels_path go together")
        if self.dataset_id is not None and (self.documents_path or self.document_ids):
            raise ValueError("documents_path and document_ids go with project_id")
        return self


class ClassScore(BaseModel):
    """The scores of one label on the held-out documents; `support` is their number."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int


class LabelledDocuments(BaseModel):
    """
    Counts of documents and labels. `duplicates` are documents with the text of an earlier one,
    `without_document` labels without a document. Malformed are rows of labels and documents.
    """

    read: int
    unlabelled: int
    duplicates: int
    without_document: int
    first_without_document: list[str]
    malformed: int
    first_malformed: list[str]


class ProjectScore(BaseModel):
    """
    `confusion[i][j]` counts documents of class i predicted as j, in the order of `per_class`; it
    is left out for more than 100 classes, `per_class` for more than 1,000. `confusion_png` is the
    storage's key of its plot. `calibration_error` is the mean distance between probability and
    accuracy.
    """

    trained_on: int
    held_out: int
    calibration_error: float
    temperature: float
    unconverged: int
    per_class: list[ClassScore]
    confusion: list[list[int]] | None
    confusion_png: str | None
    found: LabelledDocuments


class TrainModelResult(BaseModel):
    """
    Accuracy and macro-F1 are of held-out documents, from 0 to 1 (a data set: mean over the folds).

    `model_id` names exactly this model, the project's id the newest one. A data set has neither.
    """

    project_id: str | None = None
    dataset_id: str | None = None
    model_id: str | None = None
    documents: int
    features: int
    classes: int
    accuracy: float
    macro_f1: float
    fits: int
    seconds: float
    score: ProjectScore | None = None


class PredictDocumentsArgs(Arguments):
    """
    Label a project's indexed documents, or those of `documents_path`; `document_ids` picks some.

    `model_id` names another model than the project's own.
    """

    project_id: ProjectId
    document_ids: tuple[str, ...] | None = Field(None, min_length=1, max_length=MAX_IDS)
    documents_path: str | None = Field(None, min_length=1, max_length=MAX_PATH)
    documents: DocumentOptions = DocumentOptions()
    model_id: str | None = Field(None, pattern=MODEL_ID)
    format: Literal["jsonl", "tsv", "parquet"] = "jsonl"


class PredictDocumentsResult(BaseModel):
    """
    `predictions` is the storage's key of the file: `document_id`, `label` and `probability`.

    `by_label` counts the 1,000 most frequent labels. `unknown_documents` counts requested ids that
    no document has.
    """

    project_id: str
    model_id: str
    predictions: str
    documents: int
    by_label: dict[str, int]
    mean_probability: float
    unknown_documents: int
    first_unknown: list[str]
    malformed: int
    first_malformed: list[str]
    seconds: float


class MlInferenceArgs(Arguments):
    """A text, or up to 1,000; `top` is how many labels each text gets."""

    model_id: str = Field(pattern=MODEL_ID)
    input_data: (
        Annotated[str, Field(max_length=1_000_000)]
        | Annotated[
            tuple[Annotated[str, Field(max_length=1_000_000)], ...],
            Field(min_length=1, max_length=1000),
        ]
    )
    top: int = Field(1, ge=1, le=20)


class LabelProbability(BaseModel):
    label: str
    probability: float


class MlInferenceResult(BaseModel):
    """`predictions[i]` are the likeliest labels of text i, the first the likeliest."""

    model_id: str
    predictions: list[list[LabelProbability]]


class DeleteModelArgs(Arguments):
    project_id: ProjectId


class DeleteModelResult(BaseModel):
    """The number of deleted versions. Predictions and the index stay."""

    project_id: str
    deleted: int


TRAIN_MODEL = Contract(
    "train_model",
    TrainModelArgs,
    TrainModelResult,
    broker="ml",
    queue="training",
    soft_limit_s=5 * 3600,
    hard_limit_s=6 * 3600,
    memory_limit_mb=8192,
    backoff_s=10,
)
PREDICT_DOCUMENTS = Contract(
    "predict_documents",
    PredictDocumentsArgs,
    PredictDocumentsResult,
    broker="ml",
    queue="prediction",
    soft_limit_s=3 * 3600,
    hard_limit_s=4 * 3600,
    memory_limit_mb=8192,
    backoff_s=10,
)
ML_INFERENCE = Contract(
    "ml_inference",
    MlInferenceArgs,
    MlInferenceResult,
    broker="ml",
    soft_limit_s=30,
    hard_limit_s=60,
    backoff_s=1,
)
DELETE_MODEL = Contract(
    "delete_model", DeleteModelArgs, DeleteModelResult, broker="ml", backoff_s=1
)

CONTRACTS = (TRAIN_MODEL, PREDICT_DOCUMENTS, ML_INFERENCE, DELETE_MODEL, *INDEX_CONTRACTS)
