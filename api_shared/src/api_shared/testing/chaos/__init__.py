"""
Faults on purpose: each row of `kiq chaos` breaks one thing under a known load, heals it, drains,
and counts what became of every job.

    kiq chaos worker-kills --small --seed 7

A row is a file in `scenarios/`; what it stands on is `ground.py`. Needs the extra
`api-shared[services]`. Nothing but the command and the tests imports this package.
"""

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.waiting import NotInTime, until

__all__ = ["Environment", "NotInTime", "Report", "Scenario", "until"]
