"""
Chaos scenarios: each breaks one thing under a known load, heals it, drains, and counts what became
of every job.

    kiq chaos worker-kills --small --seed 7

A scenario is a file in `scenarios/`, which uses `environment.py`. Needs the extra
`api-shared[services]`. Only the command and the tests import this package.
"""

from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.waiting import NotInTime, until

__all__ = ["Environment", "NotInTime", "Report", "Scenario", "until"]
