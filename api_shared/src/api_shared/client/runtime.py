"""What a started broker works with."""

from __future__ import annotations

from dataclasses import dataclass

from api_shared.ledger.protocol import Ledger
from api_shared.notifier.protocol import Notifier
from api_shared.settings import Settings
from api_shared.transport.publisher import Publisher
from api_shared.transport.topology import Topology


@dataclass(frozen=True, slots=True)
class Runtime:
    """What stands behind a broker in this process."""

    settings: Settings
    topology: Topology
    ledger: Ledger
    notifier: Notifier
    publisher: Publisher
