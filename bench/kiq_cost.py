"""
`python bench/kiq_cost.py`: what the proof of the arguments' round trip costs a kiq.

No server. Printed is the CPU time of one call, the best of nine rounds, for a model of
five fields: encoding with the proof, and pydantic's own writing and reading of the same model.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from time import process_time
from timeit import repeat

from pydantic import BaseModel, ConfigDict

from api_shared import Contract

CALLS = 20_000


class ReportArgs(BaseModel):
    model_config = ConfigDict(extra="forbid")
    user_id: str
    count: int = 3
    since: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    tags: list[str] = ["a", "b"]
    options: dict[str, int] = {"a": 1}


REPORT = Contract("report", ReportArgs, int)


def main() -> None:
    args = ReportArgs(user_id="ada")
    text = args.model_dump_json()
    steps: dict[str, Callable[[], object]] = {
        "write, prove": lambda: REPORT.encode_args(args),
        "pydantic: write": args.model_dump_json,
        "pydantic: read": lambda: ReportArgs.model_validate_json(text),
    }
    for name, step in steps.items():
        best_s = min(repeat(step, timer=process_time, number=CALLS, repeat=9)) / CALLS
        print(f"{name:<16} {best_s * 1e6:5.1f} µs")


if __name__ == "__main__":
    main()
