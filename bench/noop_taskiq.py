"""The peer: plain taskiq with taskiq-aio-pika and results in Redis, as its documentation has it."""

import os

from aio_pika import ExchangeType
from taskiq.serializers import JSONSerializer
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType
from taskiq_redis import RedisAsyncResultBackend

broker = AioPikaBroker(
    os.environ["RABBITMQ_URL"],
    qos=100,
    exchange=Exchange(name="peer", type=ExchangeType.DIRECT),
    task_queues=[Queue(name="peer", type=QueueType.CLASSIC)],
    dead_letter_queue=Queue(name="peer.dlq", type=QueueType.CLASSIC),
).with_result_backend(
    RedisAsyncResultBackend(
        os.environ["REDIS_URL"], serializer=JSONSerializer(), prefix_str="peer", result_ex_time=3600
    )
)


@broker.task(task_name="noop")
async def noop() -> None:
    return None
