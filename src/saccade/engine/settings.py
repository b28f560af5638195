"""Frozen dataclasses of settings: to and from JSON, changed by text from the command line, checked."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from saccade.errors import SaccadeError

S = TypeVar("S", bound="Settings")


class Settings:
    """The base of recipes. A subclass is a frozen dataclass with a field `name`."""

    name: str

    def check_choices(self) -> None:
        """Raise `SaccadeError` if a field that is one of several words is none of them."""
        for key, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, key) not in get_args(kind):
                given, names = getattr(self, key), ", ".join(get_args(kind))
                raise SaccadeError(f"Recipe {self.name}: {key} must be one of {names}, got {given!r}.")

    def demand(self, checks: Mapping[str, bool]) -> None:
        """Raise `SaccadeError` with the first sentence that does not hold."""
        for message, holds in checks.items():
            if not holds:
                raise SaccadeError(f"Recipe {self.name}: {message}.")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # type: ignore[call-overload]
        return plain

    @classmethod
    def from_dict(cls: type[S], values: Mapping[str, Any]) -> S:
        """The inverse of `as_dict`."""
        unknown = sorted(values.keys() - get_type_hints(cls).keys())
        if unknown:
            raise SaccadeError(f"A recipe has no field {unknown[0]!r}; it may be from another version of Saccade.")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)

    def override(self: S, changes: Mapping[str, str]) -> S:
        """This recipe with fields replaced by values given as text, each checked against the field's type."""
        hints = get_type_hints(type(self))
        parsed = {}
        for key, text in changes.items():
            name = key.replace("-", "_")
            if name not in hints:
                raise SaccadeError(f"A recipe has no field {key!r}; its fields are {', '.join(hints)}.")
            parsed[name] = _parse(key, text, hints[name])
        return dataclasses.replace(self, **parsed)  # type: ignore[type-var]


def _parse(key: str, text: str, kind: Any) -> Any:
    """`text` as a value of type `kind`."""
    try:
        if kind is bool:
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
        if kind is int:
            return int(text)
        if kind is float:
            top, slash, bottom = text.partition("/")  # as in --eps 8/255
            return float(top) / float(bottom) if slash else float(text)
        if kind is str:
            return text
        if getattr(kind, "__origin__", None) is Literal:
            if text not in kind.__args__:
                raise ValueError
            return text
        if getattr(kind, "__origin__", None) is tuple:
            return tuple(kind.__args__[0](part) for part in text.split(",") if part)
        value = json.loads(text)
        if not isinstance(value, dict):
            raise ValueError
        return value
    except (ValueError, KeyError, ZeroDivisionError) as error:
        expected = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind)
        if getattr(kind, "__origin__", None) is Literal:
            expected = "one of " + ", ".join(kind.__args__)
        elif getattr(kind, "__origin__", None) is tuple:
            expected = "numbers separated by commas"
        raise SaccadeError(f"--{key} got {text!r}; {expected or 'a JSON object'} is expected.") from error
