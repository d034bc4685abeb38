"""Checks of RabbitMQ's management API: its answer, alarms, and bindings. They change nothing."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from api_shared.cli.connections import BROKERS
from api_shared.cli.masking import masked_url
from api_shared.cli.rabbitmq import ANSWER_S
from api_shared.doctor import Finding, Findings
from api_shared.settings import Settings
from api_shared.transport.management import Management, ManagementRefused
from api_shared.transport.topology import topology_of

FOUND = Findings("rabbitmq")
ALARMS = {"mem_alarm": "memory", "disk_free_alarm": "free disk space"}


def check_management(settings: Settings) -> list[Finding]:
    """Check the management API, blocking. Only operators need it: its absence is only a warning."""
    where = masked_url(settings.rabbitmq_management_url)
    try:
        management = _management_of(settings)
        management("GET", "overview")
        findings = [FOUND.ok(f"the management UI answers at {where}")]
        return findings + _alarms(management) + _unbound(management, settings)
    except ManagementRefused as refused:
        text = f"the management UI at {where} answers {refused.status} to this login"
        return [FOUND.warn(text, "rabbitmqctl set_user_tags USER monitoring")]
    except (OSError, http.client.HTTPException, ValueError) as error:
        text = f"the management UI at {where} does not answer: {error or type(error).__name__}"
        remedy = "rabbitmq-plugins enable rabbitmq_management, or correct RABBITMQ_MANAGEMENT_URL"
        return [FOUND.warn(text, remedy)]


def _management_of(settings: Settings) -> Management:
    amqp = urlsplit(settings.amqp_url)
    return Management(
        settings.rabbitmq_management_url,
        user=unquote(amqp.username or ""),
        password=unquote(amqp.password or ""),
        timeout_s=ANSWER_S,
    )


def _alarms(management: Management) -> list[Finding]:
    """Alarms. While one of them is raised, RabbitMQ takes nothing from publishers."""
    nodes = _answer(management, "nodes") or []
    return [
        FOUND.bad(
            f"RabbitMQ has raised its alarm for {name}: nothing can be published",
            "give the machine more of it; accepted jobs are published afterwards",
        )
        for alarm, name in ALARMS.items()
        if any(node.get(alarm) for node in nodes)
    ]


def _unbound(management: Management, settings: Settings) -> list[Finding]:
    """Existing queues to which their existing exchange does not route."""
    vhost = _quoted(unquote(urlsplit(settings.amqp_url).path.removeprefix("/")) or "/")
    findings = []
    for broker in BROKERS:
        topology = topology_of(broker, settings)
        exchange = _quoted(topology.exchange)
        for queue in topology.queues:
            name = _quoted(queue.name)
            bindings = _answer(management, f"bindings/{vhost}/e/{exchange}/q/{name}")
            if bindings is None:
                continue
            is_bound = any(each.get("routing_key") == queue.routing_key for each in bindings)
            if not is_bound and _answer(management, f"queues/{vhost}/{name}") is not None:
                text = f"exchange {topology.exchange!r} does not route to queue {queue.name!r}"
                findings.append(FOUND.bad(text, "restart a worker: it binds its queues"))
    return findings


def _answer(management: Management, path: str) -> Any:
    """The answer. None if this login may not see it, or it does not exist."""
    try:
        return management("GET", path)
    except ManagementRefused:
        return None


def _quoted(part: str) -> str:
    return quote(part, safe="")
