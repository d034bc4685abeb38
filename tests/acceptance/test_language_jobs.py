"""The general worker's language tasks, in real worker processes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from api_shared.contracts.language import (
    PROCESS_JOB,
    SUMMARIZE_TEXT,
    ProcessJobArgs,
    SummarizeTextArgs,
)
from api_shared.job import Status
from fixtures.cli import Place
from fixtures.fault_server import Call, FaultServer, answers, echoes, says, stalls
from fixtures.workers import LONG_S, Platform, until

WORKER = "workers_general.main:broker"
TEN_PARTS = " ".join(f"This is sentence {number} of a long text, no." for number in range(195))
LICENSE = (Path(__file__).parents[2] / "LICENSE").read_text(encoding="utf-8")


async def counts_words(call: Call) -> None:
    words = sum(len(message["content"].split()) + 4 for message in call.body["messages"])
    await answers({"input_tokens": words})(call)


async def says_the_first_words(call: Call) -> None:
    await says(f"{' '.join(call.prompt.split()[:4])}.", model="words-1")(call)


def parts_asked(server: FaultServer) -> Counter[str]:
    """How often each part was asked for."""
    systems = [call.body["messages"][0]["content"] for call in server.chats]
    found = [re.search(r"part \d+ of \d+", system) for system in systems]
    return Counter(match[0] for match in found if match)


async def test_a_worker_killed_between_two_of_ten_parts_pays_for_no_part_twice(
    platform: Platform, faults: FaultServer
) -> None:
    async def holds_the_sixth(call: Call) -> None:
        if parts_asked(faults).total() < 6:
            await says_the_first_words(call)
        else:
            await stalls()(call)

    faults.on("/v1/models", answers({"data": [{"id": "words-1", "meta": {"n_ctx": 500}}]}))
    faults.on("/v1/chat/completions/input_tokens", counts_words)
    faults.on_chat(holds_the_sixth)
    first = await platform.worker(WORKER, LLM_SERVER_URL=faults.url)
    handle = await SUMMARIZE_TEXT.kiq(SummarizeTextArgs(text=TEN_PARTS, max_length=30), owner="ada")
    await until(lambda: parts_asked(faults).total() == 6, what="six parts asked for")
    before = await platform.job(handle)
    first.kill()
    faults.on_chat(says_the_first_words)
    await platform.worker(WORKER, LLM_SERVER_URL=faults.url)
    result = await handle.result(LONG_S)

    asked = parts_asked(faults)
    job = await platform.job(handle)
    assert before.usage["llm_calls"] == 5, "each is in the ledger before the next is asked for"
    assert result.parts == len(asked) == 10
    assert asked.total() == 11, "all once, but the one that was under way when the worker died"
    assert asked["part 6 of 10"] == 2
    assert (job.lost, job.attempt) == (1, 0)
    assert job.usage["llm_calls"] == 11, "ten parts and the summary of their summaries"
    assert (result.backend, result.model, result.prompt) == ("openai", "words-1", "summarize.v1")


async def test_an_api_records_a_request_with_any_client_and_finds_the_result_there(
    platform: Platform, faults: FaultServer
) -> None:
    faults.on_chat(echoes("You said: "))
    await platform.worker(WORKER, LLM_SERVER_URL=faults.url)
    with MongoClient[dict[str, Any]](platform.services.mongodb.url) as client:
        records = client[platform.name]["requests"]
        key = records.insert_one({"kind": "text", "request": {"prompt": "Hi."}}).inserted_id
        args = ProcessJobArgs(job_id=str(key))
        handles = [await PROCESS_JOB.kiq(args, job_id=str(key)) for _ in range(2)]
        result = await handles[0].result(LONG_S)
        record = records.find_one({"_id": key})

    assert record is not None
    assert (record["status"], record["job_id"]) == ("completed", str(key))
    assert record["result"] == result.result
    assert record["result"]["text"] == "You said: Hi."
    assert record["ended_at"] >= record["started_at"]
    assert [call.prompt for call in faults.chats].count("Hi.") == 1, (
        "kiqed twice under one id, it is one job"
    )


def test_without_a_server_the_shell_gets_a_summary_and_says_what_to_set(
    bare_place: Place,
) -> None:
    cli = bare_place.cli
    bare_place.worker(WORKER)
    cli.until(lambda alive: len(alive) == 1, "workers")
    summary = cli("submit", "summarize_text", f"text={LICENSE}", "max_length=50", "--wait").json
    refused = cli("submit", "generate_text", "prompt=Write.", "--wait", code=1)

    assert summary["method"] == "extractive"
    assert 0 < summary["summary_length"] <= 50
    assert "LLM_SERVER_URL" in refused.err
    assert Status.FAILED in refused.err
