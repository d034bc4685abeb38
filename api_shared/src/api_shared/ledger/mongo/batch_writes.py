"""One batch of operations as one `update` command, and the verdict of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import bson
import structlog
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo.errors import PyMongoError

from api_shared.errors import LedgerUnavailable, TooLarge
from api_shared.ledger.apply import as_inserted
from api_shared.ledger.batcher import Unanswered, Unsent
from api_shared.ledger.mongo.documents import Document, job_of, update_of, upsert_of
from api_shared.ledger.mongo.errors import (
    DUPLICATE_KEY,
    TOO_LARGE,
    UNENCODABLE,
    is_passing,
    never_left,
    reason_of,
    unencodable,
)
from api_shared.ledger.mongo.unique_keys import UniqueKey, holders_of, taken_key
from api_shared.ledger.operations import Insert, Inserted, Operation

DOCUMENT_LIMIT_BYTES = 16 * 1024 * 1024

WRITE_CONCERN = {"w": "majority", "j": True, "wtimeout": 8_000}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Statement:
    """An encoded operation. Values that BSON cannot hold were refused before."""

    operation: Operation[Any]
    id: bson.ObjectId
    encoded: RawBSONDocument

    @property
    def size_bytes(self) -> int:
        return len(self.encoded.raw)


def encode(operation: Operation[Any]) -> Statement:
    """Encode one operation. Raises `TooLarge` or `InvalidOption`, for its caller only."""
    job_id = operation.change.job_id
    try:
        if isinstance(operation, Insert):
            query, pipeline = upsert_of(operation)
        else:
            query, pipeline = update_of(operation.change)
        upsert = isinstance(operation, Insert)
        raw = bson.encode({"q": query, "u": pipeline, "upsert": upsert})
    except UNENCODABLE as error:
        raise unencodable(f"job {job_id}", error) from None
    if len(raw) > DOCUMENT_LIMIT_BYTES:
        raise TooLarge(f"the record of job {job_id}", len(raw), DOCUMENT_LIMIT_BYTES)
    return Statement(operation, query["_id"], RawBSONDocument(raw))


async def send_batch(
    jobs: AsyncIOMotorCollection[Document], batch: Sequence[Statement]
) -> list[Any]:
    """
    Send a batch and return the verdict (or the error) of each operation, in their order.

    Raises `Unsent` if the command was certainly not executed, `Unanswered` if that is not known.
    """
    try:
        answer = await jobs.database.command(
            "update",
            jobs.name,
            updates=[statement.encoded for statement in batch],
            ordered=False,
            writeConcern=WRITE_CONCERN,
        )
    except PyMongoError as error:
        log.warning("ledger.unanswered", operations=len(batch), reason=reason_of(error))
        raise (Unsent if never_left(error) else Unanswered)(reason_of(error)) from None
    if "writeConcernError" in answer:
        reason = f"not yet on a majority ({answer['writeConcernError'].get('codeName', 'error')})"
        log.warning("ledger.unanswered", operations=len(batch), reason=reason)
        raise Unanswered(reason)
    return await _verdicts(jobs, batch, answer)


async def _verdicts(
    jobs: AsyncIOMotorCollection[Document], batch: Sequence[Statement], answer: Document
) -> list[Any]:
    verdicts: dict[int, Any] = {}
    taken: dict[int, UniqueKey] = {}
    for error in answer.get("writeErrors", ()):
        if error["code"] != DUPLICATE_KEY:
            verdicts[error["index"]] = _write_error(batch[error["index"]], error)
        elif (key := taken_key(error)) is not None:
            taken[error["index"]] = key  # otherwise another insert of this job was faster
    for upserted in answer.get("upserted", ()):
        operation = batch[upserted["index"]].operation
        assert isinstance(operation, Insert)  # noqa: S101 - only inserts are sent as upserts
        verdicts[upserted["index"]] = Inserted(True, as_inserted(operation, datetime.now(UTC)))
    if answer["n"] == len(batch):
        for index, statement in enumerate(batch):
            if index not in verdicts and statement.operation.if_matched is not None:
                verdicts[index] = statement.operation.if_matched
    await _look(jobs, batch, verdicts, taken)
    return [verdicts[index] for index in range(len(batch))]


async def _look(
    jobs: AsyncIOMotorCollection[Document],
    batch: Sequence[Statement],
    verdicts: dict[int, Any],
    taken: Mapping[int, UniqueKey],
) -> None:
    """
    Read the records of operations without a verdict, or the holders of taken keys, and decide.
    """
    undecided = [index for index in range(len(batch)) if index not in verdicts]
    if not undecided:
        return
    ids = [batch[index].id for index in undecided]
    try:
        found = await jobs.find({"_id": {"$in": ids}}, batch_size=len(ids) + 1).to_list(None)
        holders = await holders_of(jobs, taken.values())
    except PyMongoError as error:
        # The writes did arrive, even if this read fails: never `Unsent`.
        log.warning("ledger.unanswered", operations=len(batch), reason=reason_of(error))
        raise Unanswered(reason_of(error)) from None
    records = {document["_id"]: document for document in found}
    for index in undecided:
        record = records.get(batch[index].id)
        if record is None and index in taken:
            record = holders.get(taken[index])
        verdicts[index] = _verdict(batch[index], record)


def _verdict(statement: Statement, record: Document | None) -> Any:
    operation = statement.operation
    if record is None and isinstance(operation, Insert):
        return Unanswered("the job, or the one that held its key, was gone before it was read")
    try:
        return operation.verdict(None if record is None else job_of(record))
    except Exception as error:
        return error


def _write_error(statement: Statement, error: Document) -> Exception:
    code, job_id = error["code"], statement.operation.change.job_id
    if code in TOO_LARGE:
        return TooLarge(
            f"the record of job {job_id}", DOCUMENT_LIMIT_BYTES + 1, DOCUMENT_LIMIT_BYTES
        )
    if is_passing(code):
        return Unanswered(f"MongoDB could not write now ({code})")
    log.error("ledger.refused", job_id=job_id, code=code)
    return LedgerUnavailable(f"MongoDB refused the write ({code})")
