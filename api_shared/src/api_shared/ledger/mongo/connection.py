"""An open connection to MongoDB, with the batcher of its writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC
from typing import Any

import pymongo
import structlog
from bson.codec_options import CodecOptions
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection
from pymongo import ReadPreference, WriteConcern
from pymongo.errors import ConfigurationError, PyMongoError
from pymongo.read_concern import ReadConcern

from api_shared.ledger.batcher import Batcher, Unsent
from api_shared.ledger.mongo.batch_writes import Statement, send_batch
from api_shared.ledger.mongo.documents import Document
from api_shared.ledger.mongo.errors import reason_of
from api_shared.ledger.mongo.indexes import UNIQUE_INDEX
from api_shared.settings import InvalidSettings, Settings

log = structlog.get_logger(__name__)


class Connection:
    """A connection for the event loop that runs when it is made."""

    def __init__(self, settings: Settings, max_batch: int) -> None:
        try:
            self.client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
                settings.mongodb_address,
                appname="api_workers",
                io_loop=asyncio.get_running_loop(),
                serverSelectionTimeoutMS=3_000,
                connectTimeoutMS=3_000,
                socketTimeoutMS=10_000,
            )
        except (ConfigurationError, ValueError) as error:
            problem = "must be a URL like mongodb://[user:password@]host[:port]/[?options]"
            raise InvalidSettings([f"MONGODB_URL: {problem} ({type(error).__name__})"]) from None
        except OSError as error:  # a TLS file that the URL names
            raise InvalidSettings([f"MONGODB_URL: {error}"]) from None
        database = self.client.get_database(
            settings.database_name,
            codec_options=CodecOptions(tz_aware=True, tzinfo=UTC),
            read_preference=ReadPreference.PRIMARY,
            read_concern=ReadConcern("majority"),
            write_concern=WriteConcern(w="majority", j=True),
        )
        self.jobs: AsyncIOMotorCollection[Document] = database["jobs"]
        self.workers: AsyncIOMotorCollection[Document] = database["workers"]
        self.requests: AsyncIOMotorCollection[Document] = database["requests"]
        self.schedules: AsyncIOMotorCollection[Document] = database["schedules"]
        self._is_suspect = True
        self._is_away = False
        self._is_unique = False
        self._making_unique = asyncio.Lock()
        self.batcher: Batcher[Statement, Any] = Batcher(
            self._send,
            key=lambda statement: statement.id,
            size_bytes=lambda statement: statement.size_bytes,
            ready=self._ready,
            max_count=max_batch,
        )

    async def close(self) -> None:
        await self.batcher.close()
        self.client.close()

    async def make_unique(self) -> None:
        """
        Create the index of unique keys, once. A service that needs it may have been deployed before
        the workers, which create all indexes.
        """
        async with self._making_unique:
            if not self._is_unique:
                await self.jobs.create_indexes([UNIQUE_INDEX])
                self._is_unique = True

    async def _send(self, batch: Sequence[Statement]) -> list[Any]:
        self._is_suspect = True
        verdicts = await send_batch(self.jobs, batch)
        self._is_suspect = False
        return verdicts

    async def _ready(self) -> None:
        """
        Ping a server that did not answer last time, before it gets a batch. While it is away no
        operation is sent, so that a kiq that gives up has certainly stored nothing.
        """
        if not self._is_suspect:
            return
        try:
            with pymongo.timeout(3.0):
                await self.client.admin.command("ping")
        except PyMongoError as error:
            if not self._is_away:
                log.warning("ledger.away", reason=reason_of(error))
            self._is_away = True
            raise Unsent(reason_of(error)) from None
        if self._is_away:
            log.info("ledger.back")
        self._is_away = False
