"""Configuration from its layers: defaults < TOML file < environment < command line."""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from stream.config import Config, Section
from stream.errors import ConfigError

ENV_PREFIX = "EMOTIDE_"
DELIMITER = "__"

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Values from one source; `name` is a file, or a format for the source of one key."""

    name: str
    values: Tree

    def source(self, path: Iterable[str]) -> str | None:
        """Return the name of the source that sets `path`, or None if this layer does not."""
        keys, node = list(path), self.values
        for key in keys:
            if not isinstance(node, dict) or key not in node:
                # A value inside a list or a scalar belongs to the key that holds it.
                return self._named(keys) if not isinstance(node, dict) else None
            node = node[key]
        return self._named(keys)

    def _named(self, keys: list[str]) -> str:
        key = ".".join(keys[:2])
        return self.name.format(key=key, env=key.upper().replace(".", DELIMITER))


_SECTIONS: Any = {name: (field.annotation, ...) for name, field in Config.model_fields.items()}
_SETTINGS = create_model("_Settings", __base__=BaseSettings, **_SECTIONS)
"""The sections of `Config` as pydantic-settings wants them: to find the type of a key."""


class _Text(EnvSettingsSource):
    """Values as text under names like EMOTIDE_SERVER__PORT; lists and tables are TOML."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        super().__init__(_SETTINGS, env_prefix=ENV_PREFIX, env_nested_delimiter=DELIMITER)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._values.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Read a TOML value; other text stays text, so that validation names its key."""
        try:
            return tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            return value


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    overrides: Mapping[str, str] | None = None,
) -> Config:
    """Return the effective configuration.

    `environ` holds names like EMOTIDE_SERVER__PORT, `overrides` keys like "server.port"; both are
    text and are read as the type of their key. Raises `ConfigError` with one line per problem, each
    with its source, key and value.
    """
    set_options = {}
    for key, text in (overrides or {}).items():
        _check_key(key, f"--set {key}")
        set_options[ENV_PREFIX + key.replace(".", DELIMITER)] = text
    layers = (
        _Layer(str(path) if path is not None else "defaults", _read(path) if path else {}),
        _Layer(ENV_PREFIX + "{env}", _Text(_own(environ))()),
        _Layer("--set {key}", _Text(set_options)()),
    )
    merged: Tree = {}
    for layer in layers:
        _merge(merged, layer.values)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("\n  ".join(_explain(error, layers))) from None


def forget_secrets(environ: MutableMapping[str, str]) -> None:
    """Remove the variables of secret keys, so that no child process inherits them."""
    for section, table in Config.model_fields.items():
        fields = getattr(table.annotation, "model_fields", {})
        secret = {key for key, field in fields.items() if _is_secret(field)}
        for name in [*environ]:
            key = name.removeprefix(ENV_PREFIX).lower()
            if name.startswith(ENV_PREFIX) and key in {f"{section}{DELIMITER}{s}" for s in secret}:
                del environ[name]


def _read(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None


def _own(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name a key. Raises `ConfigError` for names that nearly do."""
    own = {}
    for name, text in environ.items():
        if not name.startswith(ENV_PREFIX):
            continue
        key = name.removeprefix(ENV_PREFIX).lower()
        if DELIMITER in key:
            _check_key(key.replace(DELIMITER, "."), name)
            own[name] = text
        elif key.partition("_")[2] in _fields(key.partition("_")[0]):
            raise ConfigError(
                f"{name}: separate section and key with two underscores: SECTION__KEY"
            )
    return own


def _check_key(key: str, source: str) -> None:
    section, _, name = key.partition(".")
    if not name:
        raise ConfigError(f"{source}: expected SECTION.KEY, like server.port")
    if section not in Config.model_fields:
        raise ConfigError(f"{source}: {_unknown(section, Config.model_fields)}")


def _merge(tree: Tree, over: Tree) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = dict(value) if isinstance(value, dict) else value


def _fields(section: str) -> dict[str, FieldInfo]:
    kind = getattr(Config.model_fields.get(section), "annotation", Section)
    is_section = isinstance(kind, type) and issubclass(kind, BaseModel)
    return dict(kind.model_fields) if is_section else {}


def _is_secret(field: FieldInfo) -> bool:
    """Return whether a key holds a secret, or a table of them."""
    return SecretStr.__name__ in str(field.annotation)


def _explain(error: ValidationError, layers: Iterable[_Layer]) -> Iterable[str]:
    """Yield one line per problem: source, key, message and value, or the nearest right name."""
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"]]
        message = problem["msg"].removeprefix("Value error, ")
        if not path:  # of several sections; the message begins with its key
            path, label = re.split(r"[.: ]", message)[:2], ""
        else:
            label = f"{'.'.join(path)}: "
        sources = (layer.source(path) for layer in reversed(list(layers)))
        source = next(filter(None, sources), "configuration")
        if problem["type"] == "extra_forbidden":
            known = _known_at(Config, path[:-1])
            yield f"{source}: {'.'.join([*path[:-1], ''])}{_unknown(path[-1], known)}"
            continue
        field = _fields(path[0]).get(path[1]) if len(path) > 1 else None
        secret = field is not None and _is_secret(field)
        hidden = secret or path[-1] == "secret" or isinstance(problem["input"], dict)
        shown = "" if hidden else f" (got {problem['input']!r})"
        yield f"{source}: {label}{message}{shown}"


def _known_at(model: type[BaseModel], path: Iterable[str]) -> dict[str, FieldInfo]:
    """Return the fields of the table at a path, which may lead through lists and tables."""
    for key in path:
        field = model.model_fields.get(key)
        if field is not None:
            model = next(_models_in(field.annotation), model)
    return dict(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the model that a type is, or those that it contains."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
    return f"{name}: unknown key; {remedy}"


def to_toml(config: Config) -> str:
    """Return the configuration as TOML that `load` accepts; secrets are masked."""
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
        items = (f"{key} = {_toml(item)}" for key, item in value.items() if item is not None)
        return f"{{{', '.join(items)}}}"
    if isinstance(value, str):
        # A JSON string is a TOML basic string, except that TOML requires DEL to be escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)
