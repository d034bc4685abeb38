"""Acknowledgement of deliveries, gathered so that several jobs need only one frame."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog
from aiormq.abc import AbstractChannel

from api_shared.transport.errors import RabbitUnavailable, driver_errors

log = structlog.get_logger()


class Acks:
    """
    The unsettled deliveries of one channel.

    Tags are acked with `multiple` only up to the last tag below which none is unsettled. A multiple
    ack must never name a tag that is settled already: RabbitMQ would close the channel. When a
    channel is lost, RabbitMQ requeues its deliveries; their acks are dropped.
    """

    def __init__(self, channel: AbstractChannel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._unsettled: OrderedDict[int, bool] = OrderedDict()
        self._flush_planned = False
        self._frames: deque[Callable[[], Coroutine[Any, Any, None]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    def delivered(self, tag: int) -> None:
        self._unsettled[tag] = False

    def ack(self, tag: int) -> None:
        """Ack soon. A tag that is settled already is ignored."""
        if tag not in self._unsettled:
            return
        self._unsettled[tag] = True
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._start_flush)

    def requeue(self, tag: int) -> None:
        """
        Let RabbitMQ deliver the message again, here or elsewhere, at its old place in the queue.
        """
        if self._unsettled.get(tag) is False:  # neither acked nor settled
            del self._unsettled[tag]
            self._send(partial(self._nack, tag))

    async def drain(self) -> None:
        """Wait until all acks and requeues are written."""
        self._start_flush()
        while self._sender is not None:
            await asyncio.gather(self._sender, return_exceptions=True)

    def _start_flush(self) -> None:
        self._flush_planned = False
        last_of_run = 0
        while self._unsettled:
            tag, done = next(iter(self._unsettled.items()))
            if not done:
                break
            del self._unsettled[tag]
            last_of_run = tag
        if last_of_run:
            self._send(partial(self._ack, last_of_run, multiple=True))
        beyond_a_gap = [tag for tag, done in self._unsettled.items() if done]
        for tag in beyond_a_gap:
            del self._unsettled[tag]
            self._send(partial(self._ack, tag, multiple=False))

    def _send(self, frame: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """
        Send frames one after the other. The connection's queue of frames is short; of several
        frames that wait for a place in it, a later one may come first. A multiple ack must not.
        """
        self._frames.append(frame)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._frames:
                await self._frames.popleft()()
        finally:
            self._sender = None

    async def _ack(self, tag: int, *, multiple: bool) -> None:
        try:
            with driver_errors():
                await self._channel.basic_ack(tag, multiple=multiple, wait=False)
        except RabbitUnavailable as error:
            log.debug("rabbitmq.ack_dropped", tag=tag, error=str(error))

    async def _nack(self, tag: int) -> None:
        try:
            with driver_errors():
                await self._channel.basic_nack(tag, requeue=True, wait=False)
        except RabbitUnavailable as error:
            log.debug("rabbitmq.give_back_dropped", tag=tag, error=str(error))
