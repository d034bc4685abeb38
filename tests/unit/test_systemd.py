"""The unit file, held to what stops a worker. systemd itself is not run."""

from __future__ import annotations

from api_shared.settings import Settings
from fixtures.compose import ROOT

STOP_MARGIN_S = 15


def values_of(key: str) -> list[str]:
    text = (ROOT / "deploy" / "api-worker@.service").read_text()
    pairs = [line.partition("=") for line in text.splitlines() if not line.startswith("#")]
    return [value for name, _, value in pairs if name == key]


def test_a_worker_under_systemd_has_more_time_to_stop_than_its_drain_takes() -> None:
    default: float = Settings.model_fields["drain_s"].default

    assert float(values_of("TimeoutStopSec")[0]) >= default + STOP_MARGIN_S
    assert values_of("KillSignal") == ["SIGTERM"]
    assert values_of("KillMode") == ["mixed"]


def test_the_unit_runs_the_command_of_the_readme() -> None:
    (command,) = values_of("ExecStart")
    readme = (ROOT / "README.md").read_text()

    for member in ("general", "ml"):
        started = command.replace("%i", member).partition("/bin/")[2]
        assert started.removesuffix(" $WORKER_FLAGS") in readme


def test_the_unit_sets_settings_only() -> None:
    named = {pair.partition("=")[0] for line in values_of("Environment") for pair in line.split()}

    assert named <= {field.upper() for field in Settings.model_fields} | {"XDG_RUNTIME_DIR"}
