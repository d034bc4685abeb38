"""The runtime of a started broker: its settings, topology, ledger, notifier and publisher."""

from __future__ import annotations

from dataclasses import dataclass

from api_shared.ledger.protocol import Ledger
from api_shared.notifier.protocol import Notifier
from api_shared.settings import Settings
from api_shared.transport.publisher import Publisher
from api_shared.transport.topology import Topology


@dataclass(frozen=True, slots=True)
class Runtime:
    """The parts that a started broker uses in this process."""

    settings: Settings
    topology: Topology
    ledger: Ledger
    notifier: Notifier
    publisher: Publisher
