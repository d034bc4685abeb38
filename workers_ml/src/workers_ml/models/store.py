"""The store of a project's models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex

from api_shared.storage import (
    NotStored,
    Storage,
    StoredTooLarge,
    SwapRefused,
    digest_of,
    project_key,
)
from workers_ml.classifier import TextClassifier, Trained
from workers_ml.features import FEATURES
from workers_ml.models.description import (
    MAX_JSON_BYTES,
    Current,
    Description,
    Kept,
    Weights,
    decode_current,
    decode_description,
)
from workers_ml.models.errors import ModelRefused, NoModel, UnknownVersion
from workers_ml.models.weights import decode_weights, encode_weights

KEPT_VERSIONS = 3
SWAP_TRIES = 20

CURRENT = "current.json"
DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"
CONFUSION_PLOT = "confusion.png"


@dataclass(frozen=True, slots=True)
class StoredModel:
    classifier: TextClassifier
    description: Description


class ModelStore:
    """
    The models of one project.

    A version's files are written first and named by `current.json` last, in one swap: a job that is
    killed before that leaves the model in force as it was, and files that the next job removes.
    """

    def __init__(self, storage: Storage, project_id: str) -> None:
        self.project_id = project_id
        self._storage = storage
        self._prefix = project_key(project_id, "models")

    def save(
        self,
        trained: Trained,
        plot: bytes | None = None,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> Description:
        """
        Put the model in force; the two versions before it are kept.

        `on_step` is called with what was written: weights, description, current.
        """
        weights = encode_weights(trained.classifier)
        for _ in range(SWAP_TRIES):
            current, expected = self._current_to_replace()
            description = _describe(
                trained, weights, f"{current.last_number + 1:06}-{token_hex(4)}"
            )
            content = description.encode()
            self._storage.save(self._key(description.version, WEIGHTS), weights)
            on_step("weights")
            if plot is not None:
                self._storage.save(self._key(description.version, CONFUSION_PLOT), plot)
            self._storage.save(self._key(description.version, DESCRIPTION), content)
            on_step("description")
            newest = Kept(version=description.version, sha256=digest_of(content))
            following = Current(
                kept=(*current.kept, newest)[-KEPT_VERSIONS:], last_number=current.last_number + 1
            )
            if self._swap(following, expected):
                on_step("current")
                self._remove_others(following)
                return description
        raise ModelRefused(self._key(CURRENT), "others replace it faster than this job can")

    def version_of(self, version: str | None) -> str:
        """
        The version in force, or `version` if it is kept. Reads one small file only. Raises
        `NoModel`, `UnknownVersion`, `ModelRefused`.
        """
        return self._find(version).version

    def load(self, version: str | None = None) -> StoredModel:
        """
        The version in force, or a named one that is kept. Raises `NoModel`, `UnknownVersion`,
        `ModelRefused`.
        """
        for _ in range(SWAP_TRIES):
            kept = self._find(version)
            try:
                return self._load(kept)
            except NotStored as error:
                if self._find(version) == kept:  # else it was replaced, and removed, in between
                    raise ModelRefused(error.key, "the file does not exist") from None
        raise ModelRefused(self._key(CURRENT), "others replace it faster than it can be read")

    def delete(self) -> int:
        """Delete all models of the project; returns how many. Version numbers are not reused."""
        for _ in range(SWAP_TRIES):
            current, expected = self._current_to_replace()
            if expected is None and not self._storage.list(self._prefix):
                return 0
            following = Current(last_number=current.last_number)
            if self._swap(following, expected):
                self._remove_others(following)
                return len(current.kept)
        raise ModelRefused(self._key(CURRENT), "others replace it faster than this job can")

    def confusion_plot_key(self, version: str) -> str:
        return self._key(version, CONFUSION_PLOT)

    def _load(self, kept: Kept) -> StoredModel:
        key = self._key(kept.version, DESCRIPTION)
        content = self._bytes(key, MAX_JSON_BYTES)
        if digest_of(content) != kept.sha256:
            raise ModelRefused(key, "its SHA-256 is not the one that current.json names")
        description = decode_description(key, content)
        if description.version != kept.version:
            raise ModelRefused(key, f"is of version {description.version}")
        if description.features != FEATURES:
            raise ModelRefused(
                key, f"made for features {description.features!r}, this worker makes {FEATURES!r}"
            )
        key = self._key(kept.version, WEIGHTS)
        weights = self._bytes(key, description.weights.size_bytes)
        if len(weights) != description.weights.size_bytes:
            expected = f"{description.weights.size_bytes:,}"
            raise ModelRefused(key, f"expected {expected} bytes, got {len(weights):,}")
        if digest_of(weights) != description.weights.sha256:
            raise ModelRefused(key, "its SHA-256 is not the one in model.json")
        return StoredModel(decode_weights(key, weights, description), description)

    def _find(self, version: str | None) -> Kept:
        current, _ = self._current()
        if not current.kept:
            raise NoModel(self.project_id)
        if version is None:
            return current.kept[-1]
        for kept in current.kept:
            if kept.version == version:
                return kept
        known = tuple(kept.version for kept in current.kept)
        raise UnknownVersion(self.project_id, version[:100], known)

    def _current(self) -> tuple[Current, str | None]:
        """The list of kept versions and its digest; None if there is no list yet."""
        key = self._key(CURRENT)
        try:
            content = self._bytes(key, MAX_JSON_BYTES)
        except NotStored:
            return Current(), None
        return decode_current(key, content), digest_of(content)

    def _current_to_replace(self) -> tuple[Current, str | None]:
        """As `_current`, but a damaged list counts as empty: one can still train or delete."""
        try:
            return self._current()
        except ModelRefused:
            names = {
                key.removeprefix(f"{self._prefix}/") for key in self._storage.list(self._prefix)
            }
            numbers = [int(name[:6]) for name in names if name[:6].isdecimal()]
            current = Current(last_number=max(numbers, default=0))
        try:
            return current, digest_of(self._storage.load(self._key(CURRENT)))
        except (NotStored, StoredTooLarge):
            self._storage.delete(self._key(CURRENT))
            return current, None

    def _swap(self, current: Current, expected: str | None) -> bool:
        try:
            self._storage.swap(self._key(CURRENT), current.encode(), expected=expected)
        except SwapRefused:
            return False
        return True

    def _remove_others(self, current: Current) -> None:
        """
        Delete the files of versions that are not kept, and of jobs that were killed. A version that
        is being written now has a higher number, or its swap will be refused.
        """
        kept = {entry.version for entry in current.kept}
        for key in self._storage.list(self._prefix):
            version, _, file = key.removeprefix(f"{self._prefix}/").partition("/")
            number = version.partition("-")[0]
            if file and version not in kept and number <= f"{current.last_number:06}":
                self._storage.delete(key)

    def _bytes(self, key: str, max_bytes: int) -> bytes:
        try:
            return self._storage.load(key, max_bytes=max_bytes)
        except StoredTooLarge as error:
            raise ModelRefused(key, str(error)) from None

    def _key(self, *names: str) -> str:
        return "/".join((self._prefix, *names))


def _describe(trained: Trained, weights: bytes, version: str) -> Description:
    classifier = trained.classifier
    return Description(
        version=version,
        created_at=datetime.now(UTC),
        features=FEATURES,
        classes=classifier.classes,
        temperature=classifier.temperature,
        weights=Weights(
            sha256=digest_of(weights),
            size_bytes=len(weights),
            features=len(classifier.weighting.features),
        ),
        trained_on=trained.trained_on,
        held_out=trained.held_out,
        accuracy=trained.metrics.accuracy,
        macro_f1=trained.metrics.macro_f1,
    )
