"""The contracts that `kiq` knows: the platform's, and those of `--module`."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from api_shared.errors import InvalidOption, UnknownTask

if TYPE_CHECKING:
    from api_shared.client.contract import Contract
    from api_shared.client.job_broker import JobBroker


class Modules:
    """The modules that `--module` names."""

    names: tuple[str, ...] = ()


def known_contracts() -> tuple[Contract[Any, Any], ...]:
    """The contracts by name. Raises `InvalidOption` for a module that cannot be imported."""
    if Modules.names:
        return tuple(contract for broker in known_brokers() for contract in broker.contracts)
    from api_shared.contracts import general, language, ml

    return (*general.CONTRACTS, *language.CONTRACTS, *ml.CONTRACTS)


def contract_named(name: str) -> Contract[Any, Any]:
    """The contract of a name. Raises `UnknownTask` with the known names."""
    contracts = {contract.name: contract for contract in known_contracts()}
    if name not in contracts:
        raise UnknownTask(name, contracts)
    return contracts[name]


def broker_of(contract: Contract[Any, Any]) -> JobBroker:
    """The broker of a contract, not started."""
    return next(broker for broker in known_brokers() if contract in broker.contracts)


def known_brokers() -> list[JobBroker]:
    """The platform's two, and those that a module of `--module` has in its names."""
    from api_shared.broker import broker, ml_broker
    from api_shared.client.job_broker import JobBroker

    known = [broker, ml_broker]
    for name in Modules.names:
        if "" not in sys.path:
            sys.path.insert(0, "")  # the working directory, as for taskiq's own command
        try:
            module = import_module(name)
        except Exception as error:
            problem = f"cannot be imported: {type(error).__name__}: {error}"
            raise InvalidOption("--module", name, problem) from None
        found = [value for value in vars(module).values() if isinstance(value, JobBroker)]
        known += [value for value in found if value not in known]
    return known
