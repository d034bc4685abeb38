"""The tests' own general broker: it knows no contract but those of `jobs.tasks`."""

from api_shared.broker import JobBroker
from api_shared.contracts.door import doors

_before = dict(doors)
broker = JobBroker("general")
doors.update(_before)  # tests choose the door: `platform.start(broker)`
