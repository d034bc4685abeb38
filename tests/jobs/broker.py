"""The tests' own general broker: it knows no contract but those of `jobs.tasks`."""

from api_shared.client.job_broker import JobBroker
from api_shared.client.started_brokers import doors

_before = dict(doors)
broker = JobBroker("general")
doors.update(_before)  # tests choose the door: `platform.start(broker)`
