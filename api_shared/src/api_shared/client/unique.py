"""What makes a job the only one of its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any, Final, Literal

MAX_KEY = 200

UniqueFor = Literal["waiting", "open"] | timedelta
"""
How long a key is held: until its job is first claimed, until it ends, or for a period from its
acceptance on. A job that failed or was cancelled holds no key any more.
"""


SCOPES: Final = ("waiting", "open")


@dataclass(frozen=True, slots=True)
class Unique:
    """
    What is unique about a contract's jobs, where a kiq passes no key of its own.

        class IndexArgs(BaseModel):
            project: int
            force: bool = False

        INDEX = Contract("index", IndexArgs, int, unique=Unique(by=("project",)))
        broker.know(INDEX)

        first = await INDEX.kiq(IndexArgs(project=7), delay=timedelta(minutes=1))
        second = await INDEX.kiq(IndexArgs(project=7, force=True))
        assert second.deduplicated and second.task_id == first.task_id

    `by` names the arguments whose values are the key; if it names none, all of them are.
    """

    by: tuple[str, ...] = ()
    unique_for: UniqueFor = "open"

    def key_of(self, args: Mapping[str, Any]) -> str:
        """The key of these arguments (JSON values by name): readable, or a digest if long."""
        chosen = {name: args[name] for name in self.by or args}
        text = json.dumps(chosen, sort_keys=True, separators=(",", ":"))
        return text if len(text) <= MAX_KEY else f"sha256:{sha256(text.encode()).hexdigest()}"
