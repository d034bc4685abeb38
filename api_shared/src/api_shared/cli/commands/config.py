"""`kiq config`: the settings in force, and where each comes from. It uses no server."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from api_shared.cli.masking import masked_url
from api_shared.cli.output import AsJson, print_json, print_table
from api_shared.redaction import MASK

if TYPE_CHECKING:
    from api_shared.settings import Settings


def config(as_json: AsJson = False) -> None:
    """List all settings: value, source (environment, .env, default). Secrets are hidden."""
    from api_shared.settings import load_settings

    rows = settings_rows(load_settings(), os.environ)
    if as_json:
        print_json(rows)
        return
    columns = ("setting", "source", "value")
    print_table(columns, [(row["name"], row["source"], _shown(row["value"])) for row in rows])


def settings_rows(settings: Settings, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """One row for each setting, in the order of their definition."""
    given = {name.lower() for name in environment}
    in_file = _names_in(settings.model_config.get("env_file"))
    rows = []
    for name, field in type(settings).model_fields.items():
        source = "default"
        if name in given:
            source = "environment"
        elif name in in_file:
            source = ".env"
        rows.append(
            {
                "name": name.upper(),
                "value": _safe(getattr(settings, name)),
                "source": source,
                "description": field.description,
            }
        )
    return rows


def _safe(value: Any) -> Any:
    """A URL without its password; any other secret is masked as a whole."""
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        return masked_url(text) if "://" in text else MASK if text else ""
    if isinstance(value, str) and "://" in value:
        return masked_url(value)
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    if value is None or value in ("", []):
        return "-"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _names_in(env_file: Any) -> set[str]:
    from dotenv import dotenv_values

    if not isinstance(env_file, str):
        return set()
    return {name.lower() for name in dotenv_values(env_file)}
