"""Options of a command that are the parameters of a function: names, defaults, types, help; so they cannot drift."""

import inspect
import re
from collections.abc import Callable, Collection, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

IMPLICIT = {"callback", "stop", "checkpoint"}
"""What a command gives to the function by itself."""

Command = TypeVar("Command", bound=Callable[..., None])


def described(function: Callable[..., Any]) -> dict[str, str]:
    """What the docstring of a function or class says about each of its parameters, in one line each."""
    names = "|".join(inspect.signature(function).parameters)
    text = " ".join((inspect.getdoc(function) or "").partition("Returns:")[0].split())
    parts = re.split(rf"(?:^|(?<=\s))((?:{names})(?:, (?:{names}))*): ", text)[1:]
    return {
        name: said.strip() for heads, said in zip(parts[::2], parts[1::2], strict=True) for name in heads.split(", ")
    }


def takes(
    function: Callable[..., Any], notes: Mapping[str, str], *, only: Collection[str] | None = None, **defaults: Any
) -> Callable[[Command], Command]:
    """A decorator: give a command that ends in **options the parameters of a function as options, so that they cannot
    drift: names, defaults, types, and what its docstring says of them.

    notes: added to that. only: these alone. defaults: other ones. Types that a command line cannot give become text.
    """
    said, hints = described(function), get_type_hints(function)

    def option(parameter: inspect.Parameter) -> inspect.Parameter:
        name, default = parameter.name, defaults.get(parameter.name, parameter.default)
        kind = hints[name]
        if not _simple(kind):
            kind, default = (str | None, None) if default is None else (str, str(default))
        flags = ("--network", "-n") if name == "network" else (f"--{name.replace('_', '-')}",)
        help = f"{said.get(name, '')} {notes.get(name, '')}".strip()
        annotation: Any = Annotated[kind, typer.Option(*flags, help=help)]
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        there = {p.name for p in own} | IMPLICIT
        more = [p for p in inspect.signature(function).parameters.values() if p.name not in there]
        options = [option(p) for p in more if only is None or p.name in only]
        vars(command)["__signature__"] = inspect.Signature([*own, *options])
        return command

    return decorate


def _simple(kind: Any) -> bool:
    """Whether a command line can give it: a number, text, a choice, or nothing instead."""
    if get_origin(kind) is Literal or kind in (int, float, str, bool):
        return True
    parts = [part for part in get_args(kind) if part is not NoneType]
    return len(parts) == 1 < len(get_args(kind)) and _simple(parts[0])
