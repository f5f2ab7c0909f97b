"""Turns a user's configuration into the flat entries that the core reads.

The core owns every key, type and limit; here a YAML file or a dict only becomes a list of
(path, values, is_list). Scalars of a file are passed on as they are written, so that the core's
refusal can quote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Entry = tuple[str, list[str], bool]


class ConfigError(ValueError):
    """The configuration cannot be read; the message says which part of it and why."""


def flatten(settings: Mapping[str, Any]) -> list[Entry]:
    """Flat entries of nested settings, in their order."""
    entries: list[Entry] = []
    _flatten(settings, "", entries)
    return entries


def read_file(path: str | Path) -> dict[str, Any]:
    """The settings of a YAML file, with every scalar as the text that it is written as."""
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from error
    try:
        settings = yaml.load(text, Loader=yaml.BaseLoader)  # BaseLoader makes text only
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if settings is None or settings == "":
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{path} must hold keys and values, not a {type(settings).__name__}")
    return settings


def entries_of(extra_config: Mapping[str, Any]) -> list[Entry]:
    """Entries of an engine's extra configuration: the keys inline, or {"config": "file.yaml"}.

    With both, an inline key wins over the file's.
    """
    inline = dict(extra_config)
    path = inline.pop("config", None)
    if path is None:
        return flatten(inline)
    if not isinstance(path, str):
        raise ConfigError(f'"config" must be the path of a YAML file, not {path!r}')
    entries = flatten(inline)
    inline_keys = {_key_of(entry) for entry in entries}
    return [e for e in flatten(read_file(path)) if _key_of(e) not in inline_keys] + entries


def _key_of(entry: Entry) -> str:
    return entry[0].removeprefix("gds_config.")  # whose keys may stand at the top level


def _flatten(settings: Mapping[str, Any], prefix: str, entries: list[Entry]) -> None:
    for key, value in settings.items():
        if not isinstance(key, str):
            raise ConfigError(f"the key {key!r} under {prefix or 'the top'!r} is not a word")
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(value, Mapping):
            _flatten(value, path, entries)
        elif isinstance(value, list | tuple):
            entries.append((path, [_scalar(path, item) for item in value], True))
        else:
            entries.append((path, [_scalar(path, value)], False))


def _scalar(path: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(f"{path}: {value!r} is neither text, a number nor true or false")
