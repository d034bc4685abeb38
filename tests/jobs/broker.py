"""The tests' own general broker: it knows no contract but those of `jobs.tasks`."""

from api_shared.client.job_broker import JobBroker
from api_shared.client.started_brokers import started

_before = dict(started)
broker = JobBroker("general")
started.update(_before)  # tests choose the door: `platform.start(broker)`
