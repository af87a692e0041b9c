"""Configuration files: presets, inheritance, overrides, and checks that speak of keys and values."""

from __future__ import annotations

import dataclasses
import difflib
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
_HERE = Path(__file__).parent
_SUFFIXES = (".yaml", ".yml")
_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/@]*:[^/@]+@", re.IGNORECASE)


def presets_folder() -> Path:
    """The folder of presets: conf/ of a checkout, or the copy inside the wheel."""
    packaged = _HERE / "conf"
    return packaged if packaged.is_dir() else _HERE.parent / "conf"


def load(kind: type[T], source: str, overrides: Sequence[str] = ()) -> T:
    """A checked, frozen config of dataclass `kind` from a YAML file or preset name and `a.b=c` overrides.

    A file may name what it builds on under the key `extends`: a preset, or another file by its path from the folder
    of the first. Raises ValueError naming the key, the value and the remedy.
    """
    values, given = _read(source), OmegaConf.create({})
    merged = values
    for text in overrides:
        _override(given, text)
        merged = _merge(values, given, f"--set {text}")
    try:
        plain = OmegaConf.to_container(merged, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise ValueError(f"{source} leaves '{error.full_key}' to you; pass --set {error.full_key}=VALUE") from error
    except OmegaConfBaseException as error:
        raise ValueError(f"{source}: {error}") from error
    _reject_unknown(kind, plain, "")
    _reject_passwords(plain, "")
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError as error:
        raise ValueError(_explain(source, error)) from error


def _merge(values: Any, given: Any, where: str) -> Any:
    try:
        return OmegaConf.merge(values, given)
    except OmegaConfBaseException as error:
        raise ValueError(f"{where}: {error}") from error
    except TypeError as error:  # OmegaConf names neither side
        reason = "a list and keys do not merge; lists are replaced whole: give the whole list"
        raise ValueError(f"{where}: {reason}") from error


def _override(values: DictConfig, text: str) -> None:
    """Set a KEY=VALUE; a value that YAML can make nothing of, such as *.tar, is plain text, unless it is bracketed or
    quoted."""
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise ValueError(f"--set {text}: give KEY=VALUE, such as --set labels.threshold=0.2")
    try:
        try:
            values.merge_with_dotlist([text])
        except yaml.YAMLError as error:
            if _is_bracketed(value):
                reason = " ".join(str(error).split())
                raise ValueError(f"--set {text}: not readable YAML ({reason}); quote what is text in it") from error
            OmegaConf.update(values, key, value)
    except OmegaConfBaseException as error:
        raise ValueError(f"--set {text}: {str(error).splitlines()[0]}") from error


def _is_bracketed(value: str) -> bool:
    """Whether a value is meant as a list, a mapping or a quoted text; [0-9]*.tar is none."""
    closing = {"[": "]", "{": "}", "'": "'", '"': '"'}.get(value[:1])
    return closing is not None and (value.endswith(closing) or closing not in value[1:])


def _read(source: str, seen: tuple[str, ...] = ()) -> Any:
    path = _locate(source)
    name = str(path.resolve())
    if name in seen:
        raise ValueError(f"{path} extends itself through {' -> '.join(seen)}; remove one 'extends'")
    try:
        values = OmegaConf.load(path)
    except Exception as error:  # the YAML parser raises many types, none of them ours
        raise ValueError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(values, DictConfig):
        raise ValueError(f"{path} must hold keys and values, it holds a {type(values).__name__}")
    base = values.pop("extends", None)
    if not base:
        return values
    beside = str(path.parent / base) if str(base).endswith(_SUFFIXES) else str(base)
    return _merge(_read(beside, (*seen, name)), values, f"{path}, which extends {base}")


def _locate(source: str) -> Path:
    path = Path(source)
    if path.suffix in _SUFFIXES:
        if path.is_file():
            return path
        raise ValueError(f"config file {path} does not exist; presets are {', '.join(preset_names())}")
    preset = presets_folder() / f"{source}.yaml"
    if "/" in source or not preset.is_file():
        close = difflib.get_close_matches(source, preset_names(), n=1)
        hint = f"; did you mean '{close[0]}'" if close else ""
        known = ", ".join(preset_names())
        raise ValueError(f"no preset is named '{source}'{hint}; give a .yaml file or one of {known}")
    return preset


def preset_names() -> list[str]:
    """The names of the presets that come with the package."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def _reject_unknown(kind: Any, value: Any, where: str) -> None:
    """Raise ValueError at the first key that no field of the dataclass `kind` (or those inside it) has."""
    for option in _options(kind):
        if dataclasses.is_dataclass(option) and isinstance(value, Mapping):
            hints = get_type_hints(option)
            for key, inner in value.items():
                if key not in hints:
                    close = difflib.get_close_matches(str(key), hints, n=1)
                    hint = f"; did you mean '{where}{close[0]}'" if close else f"; known: {', '.join(hints)}"
                    raise ValueError(f"unknown config key '{where}{key}' (value {inner!r}){hint}")
                _reject_unknown(hints[key], inner, f"{where}{key}.")
        elif get_origin(option) in (tuple, list) and isinstance(value, (list, tuple)):
            for index, inner in enumerate(value):
                _reject_unknown(get_args(option)[0], inner, f"{where}{index}.")
        elif get_origin(option) is Mapping and isinstance(value, Mapping):
            for key, inner in value.items():
                _reject_unknown(get_args(option)[1], inner, f"{where}{key}.")


def _reject_passwords(value: Any, where: str) -> None:
    """Raise ValueError for a URI with a password in it: manifests and MLflow keep the config as it is."""
    if isinstance(value, str) and _PASSWORD.match(value):
        raise ValueError(
            f"config key '{where[:-1]}' has a password in its URI, which every artifact would keep; leave it out "
            "and give it to fsspec, in its configuration or as FSSPEC_SFTP_PASSWORD and the like"
        )
    if isinstance(value, (Mapping, list)):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            _reject_passwords(inner, f"{where}{key}.")


def _options(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _explain(source: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part)[:1].isupper())
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] in {"missing", "missing_argument"}:
        return f"{source}: config key '{where}' is missing; add it or pass --set {where}=VALUE{more}"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{source}: config key '{where}' has the value {first['input']!r}: {reason}{more}"
