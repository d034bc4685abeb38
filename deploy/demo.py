"""
`make demo`: both workers on real input, watched live, and one of them killed.

Uses the servers that the environment names, else private ones that end with it.
"""

from __future__ import annotations

import asyncio
import heapq
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api_shared import JobHandle, running
from api_shared.broker import broker, ml_broker
from api_shared.contracts.general import PROCESS_DATA, ProcessDataArgs, ProcessDataOptions
from api_shared.contracts.language import (
    EXTRACT_KEYWORDS,
    SUMMARIZE_TEXT,
    ExtractKeywordsArgs,
    MadeBy,
    SummarizeTextArgs,
)
from api_shared.contracts.ml import (
    ML_INFERENCE,
    PREDICT_DOCUMENTS,
    TRAIN_MODEL,
    MlInferenceArgs,
    PredictDocumentsArgs,
    TrainModelArgs,
)
from api_shared.contracts.ml_index import (
    INDEX_DOCUMENTS,
    SIMILAR_DOCUMENTS,
    IndexDocumentsArgs,
    SimilarDocumentsArgs,
)
from api_shared.testing.servers import Services, ServiceUnavailable, running_servers

WORKERS = {
    "general": "taskiq worker workers_general.main:broker --workers 2",
    "ml": "taskiq worker workers_ml.main:broker --workers 1",
}
DOCSTRINGS = Path(__file__).parents[1] / "bench" / "docstrings.py"
PROJECT = "demo"
START_S = 60.0
say = Console(highlight=False, soft_wrap=True)


def main() -> int:
    try:
        with running_servers(on_step=step, compose_file=Path("compose.yaml")) as services:
            os.environ.update(services.env)
            with tempfile.TemporaryDirectory() as folder:
                os.environ.setdefault("STORAGE_URL", f"file:{folder}/storage")
                with workers(Path(folder)):
                    return asyncio.run(show(services, Path(folder)))
    except ServiceUnavailable as error:
        print(error, file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        return 130


async def show(services: Services, folder: Path) -> int:
    corpus, text = docstrings(folder / "corpus"), standard_library(folder / "sources.txt")
    async with running():
        await until_workers_report()
        headline("Count a text file and index a corpus: two jobs, one for each worker")
        await count_and_index(text, corpus)

        headline("Train on the corpus, score on a part held out, label all of it")
        await train_and_predict(corpus)

        headline("Ask the model and the index")
        await ask("Open a socket and wait until a client connects.")

        headline("Summarize an essay on heaps (heapq.__about__), and name its keywords")
        await summarize(heapq.__about__)

        headline("A worker dies in the middle of a job: kill -9")
        await survive_a_kill(text)

        headline("Where to look")
        say.print(f"  RabbitMQ management UI: {management_url(services)}")
        say.print("  These servers end with the demo. To keep some: make up, then in two shells")
        say.print("  make worker-general and make worker-ml; then: kiq submit, kiq watch,")
        say.print("  kiq queues, kiq doctor (see README.md); make down stops them.")
    return 0


async def count_and_index(text: Path, corpus: Path) -> None:
    options = ProcessDataOptions(source=str(text), chunk_lines=20_000)
    counting = await PROCESS_DATA.kiq(ProcessDataArgs(user_id="demo", options=options))
    indexing = await INDEX_DOCUMENTS.kiq(
        IndexDocumentsArgs(project_id=PROJECT, documents_path=str(corpus / "texts"))
    )
    await watch_live({"process_data": counting, "index_documents": indexing})
    counted, indexed = await counting.result(), await indexing.result()
    say.print(f"  process_data:    {counted.lines:,} lines, {counted.words:,} words")
    say.print(f"  index_documents: {indexed.documents:,} docstrings of Python's standard library")


async def train_and_predict(corpus: Path) -> None:
    training = await TRAIN_MODEL.kiq(
        TrainModelArgs(project_id=PROJECT, labels_path=str(corpus / "labels.tsv"))
    )
    await watch_live({"train_model": training})
    trained = await training.result()
    predicting = await PREDICT_DOCUMENTS.kiq(PredictDocumentsArgs(project_id=PROJECT))
    await watch_live({"predict_documents": predicting})
    predicted = await predicting.result()
    held_out = trained.score.held_out if trained.score else 0
    scores = f"accuracy {trained.accuracy:.3f}, macro-F1 {trained.macro_f1:.3f}"
    say.print(f"  train_model: {trained.classes} modules, on {held_out:,} held out: {scores}")
    say.print(f"  predict_documents: {predicted.documents:,} labels, in {predicted.predictions}")
    say.print("  What the ledger and Redis say of the training job:")
    await show_record(training)


async def ask(text: str) -> None:
    inference = await ML_INFERENCE.kiq(MlInferenceArgs(model_id=PROJECT, input_data=text, top=3))
    search = await SIMILAR_DOCUMENTS.kiq(SimilarDocumentsArgs(project_id=PROJECT, text=text, k=3))
    (labels,) = (await inference.result(timeout=60)).predictions
    similar = (await search.result(timeout=60)).similar
    say.print(f"  “{text}”")
    likely = ", ".join(f"{label.label} ({label.probability:.2f})" for label in labels)
    say.print(f"  ml_inference:      {likely}")
    say.print(f"  similar_documents: {', '.join(found.document_id for found in similar)}")


async def summarize(text: str) -> None:
    """By the model where LLM_SERVER_URL names a server, else by the text's own sentences."""
    summarizing = await SUMMARIZE_TEXT.kiq(SummarizeTextArgs(text=text, max_length=50))
    naming = await EXTRACT_KEYWORDS.kiq(ExtractKeywordsArgs(text=text, max_keywords=6))
    await watch_live({"summarize_text": summarizing, "extract_keywords": naming})
    summary, keywords = await summarizing.result(), await naming.result()
    say.print(f"  made by: {made_by(summary)}")
    say.print(f"  summarize_text:   {summary.original_length} words, now {summary.summary_length}:")
    say.print(f"  “{summary.summary}”")
    say.print(f"  extract_keywords: {', '.join(keywords.keywords)}")


def made_by(result: MadeBy) -> str:
    if result.model is None:
        return "a graph ranking of its sentences and words, no model (LLM_SERVER_URL is not set)"
    return f"{result.model} on {result.backend}, with the prompt {result.prompt}"


async def watch_live(handles: dict[str, JobHandle[Any]]) -> None:
    """A bar a job, fed by Redis."""
    columns = (TextColumn("  {task.description:17}"), BarColumn(), TextColumn("{task.fields[at]}"))
    with Progress(*columns, TimeElapsedColumn(), console=say) as bars:

        async def follow(name: str, handle: JobHandle[Any]) -> None:
            bar = bars.add_task(name, total=None, at="accepted")
            async for event in handle.watch():
                if event.progress is not None:
                    bars.update(bar, completed=event.progress.done, total=event.progress.total)
                stage = event.progress.stage if event.progress else ""
                bars.update(bar, at=f"{event.status} {stage}")
            bars.update(bar, completed=1, total=1)

        await asyncio.gather(*(follow(name, handle) for name, handle in handles.items()))


async def show_record(handle: JobHandle[Any]) -> None:
    job = await handle.job()
    table = Table("  seq", "status", "at (UTC)", "claim", "worker", box=None, pad_edge=False)
    for entry in job.history:
        at = entry.at.strftime("%H:%M:%S.%f")[:-3]
        table.add_row(f"  {entry.seq}", entry.status, at, str(entry.claim_no), entry.worker or "")
    say.print(f"  MongoDB, jobs._id {job.id}: {job.status}, attempts failed {job.attempt}")
    say.print(table)
    result = await handle.wait_result()
    model_id = result.return_value["model_id"]
    say.print(f"  Redis, taskiq's result: is_err={result.is_err}, model_id={model_id}, …")


async def survive_a_kill(corpus: Path) -> None:
    options = ProcessDataOptions(source=str(corpus), chunk_lines=20_000, pause_s=0.5)
    handle = await PROCESS_DATA.kiq(ProcessDataArgs(user_id="demo", options=options))
    killed_at = 0.0
    async for event in handle.watch():
        job = await handle.job()
        if event.progress is not None and not killed_at and job.worker is not None:
            worker = await worker_pid(job.worker)
            say.print(f"  {job.worker} has done {event.progress.message}: kill -9 {worker}")
            os.kill(worker, signal.SIGKILL)
            killed_at = time.monotonic()
        elif event.kind == "status" and killed_at:
            after_s = time.monotonic() - killed_at
            say.print(f"  {after_s:5.1f} s later: {event.status}, claim {job.claim_no}")
    result = await handle.result()
    recalled = f"{result.chunks_recalled} of its {result.chunks} chunks"
    say.print(f"  Completed: {recalled} came from the journal, none was counted twice")


async def worker_pid(worker_id: str) -> int:
    for worker in await broker.runtime.ledger.workers():
        if worker.id == worker_id:
            return worker.pid
    raise LookupError(f"worker {worker_id} does not report")


async def until_workers_report() -> None:
    headline("Workers, as an operator starts them")
    for line in WORKERS.values():
        say.print(f"  {line}")
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        alive = await broker.runtime.ledger.workers() + await ml_broker.runtime.ledger.workers()
        if {worker.broker for worker in alive} >= set(WORKERS):
            return
        await asyncio.sleep(0.2)
    raise SystemExit("the workers did not start; their log is above")


@contextmanager
def workers(folder: Path) -> Iterator[None]:
    """Both workers for the time of the block; what they log is shown if the demo fails."""
    logs = {name: (folder / f"{name}.log").open("wb") for name in WORKERS}
    processes = [
        subprocess.Popen(line.split(), stderr=logs[name], stdout=logs[name])
        for name, line in WORKERS.items()
    ]
    try:
        yield
    except BaseException:
        for log in logs.values():
            sys.stderr.write(Path(log.name).read_text(errors="replace")[-8000:])
        raise
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()
        for log in logs.values():
            log.close()


def docstrings(folder: Path) -> Path:
    """Real documents: the standard library's docstrings, labelled by their module."""
    subprocess.run([sys.executable, DOCSTRINGS, folder], check=True, stdout=subprocess.DEVNULL)
    return folder


def standard_library(path: Path) -> Path:
    """Real input: the source of Python's standard library, as one text file."""
    root = Path(os.__file__).parent
    with path.open("w") as corpus:
        for module in sorted(root.glob("*.py")) + sorted(root.glob("[a-r]*/*.py")):
            corpus.write(module.read_text(errors="replace"))
    return path


def management_url(services: Services) -> str:
    """Without user and password: those belong in the login form."""
    url = urlsplit(services.env.get("RABBITMQ_MANAGEMENT_URL", "http://localhost:15672"))
    return f"{url.scheme}://{url.hostname}:{url.port}"


def headline(text: str) -> None:
    say.print(f"\n[bold]{text}[/bold]")


def step(text: str) -> None:
    print(f"servers: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
