"""Configuration from outside: TOML file < environment < command line; keys checked by name."""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr, ValidationError
from pydantic.fields import FieldInfo

from stream.config import Config, Section
from stream.errors import ConfigError

ENV_PREFIX = "EMOTIDE_"


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, str] | None = None,
) -> Config:
    """The effective configuration.

    `environ` holds keys like EMOTIDE_SERVER__PORT, `overrides` like "server.port"; both are text
    and are read as TOML values where they can be. Raises `ConfigError`.
    """
    merged: dict[str, Any] = _read(path) if path is not None else {}
    source = str(path) if path is not None else "configuration"
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX):
            continue
        section, _, key = name.removeprefix(ENV_PREFIX).lower().partition("_")
        if "__" in name:
            _put(merged, f"{section}.{key.removeprefix('_')}", text, name)
        elif _field(section, key) is not None:
            raise ConfigError(f"{name}: two underscores part section and key: SECTION__KEY")
    for key, text in (overrides or {}).items():
        _put(merged, key, text, f"--set {key}")
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(f"{source}: {_explain(error)}") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _put(tree: dict[str, Any], key: str, text: str, source: str) -> None:
    section, dot, name = key.partition(".")
    if not dot or not name or not isinstance(tree.setdefault(section, {}), dict):
        raise ConfigError(f"{source}: expected SECTION.KEY, like server.port")
    field = _field(section, name)
    value = _value(text)
    if field is not None and _is_text(field, value):
        value = text
    tree[section][name] = value


def _fields(section: str) -> dict[str, FieldInfo]:
    kind = getattr(Config.model_fields.get(section), "annotation", Section)
    return dict(kind.model_fields)


def _field(section: str, name: str) -> FieldInfo | None:
    return _fields(section).get(name)


def _is_text(field: FieldInfo, value: Any) -> bool:
    """Whether a key takes its text as it is: a name or a password may look like a number."""
    text = field.annotation in (str, Path) or Path in get_args(field.annotation)
    return field.annotation is SecretStr or (text and not isinstance(value, str))


def _value(text: str) -> Any:
    """A TOML value where the text is one (numbers, booleans, lists), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(error: ValidationError) -> str:
    """Every problem in one line each: the key, what is wrong, what it might have meant."""
    lines = []
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"]]
        key = ".".join(path)
        if problem["type"] != "extra_forbidden":
            message = problem["msg"].removeprefix("Value error, ")
            field = _field(*path[:2]) if len(path) > 1 else None
            secret = field is not None and field.annotation is SecretStr
            hidden = secret or isinstance(problem["input"], dict)
            shown = "" if hidden else f" (got {problem['input']!r})"
            lines.append(f"{key}: {message}{shown}")
            continue
        fields = _fields(path[0]) if len(path) > 1 else Config.model_fields
        near = difflib.get_close_matches(path[-1], fields, 1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(fields)}"
        lines.append(f"{key}: unknown key{meant}")
    return "\n  ".join(lines)


def to_toml(config: Config) -> str:
    """The configuration as TOML that `load` reads back; secrets are masked."""
    lines: list[str] = []
    for section, values in config.model_dump(mode="json").items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {_toml(item)}' for key, item in value.items())}}}"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
