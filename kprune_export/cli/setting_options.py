"""Options of the command line that are derived from the recipe's sections: one for each setting."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from kprune_export.recipe.model import PERMISSIONS
from kprune_export.recipe.recipe import option_name
from kprune_export.recipe.settings import Section, Setting, is_list, setting_of, value_type, values_of

Settings = Mapping[str, Any]
"""The settings that were typed, by name."""
_ARGUMENT = "model"
_SHORT = {"output": "-o"}
_PARAMETER = "settings"
MOST_USED = "Most used"


def with_settings(
    *sections: type[Section],
    without: Collection[str] = (),
    required: Collection[str] = (),
    helps: Mapping[str, str] | None = None,
    shown: str | None = None,
    first: Collection[str] = (),
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Return a decorator that gives a command an option for each setting of sections.

    The command has a parameter ``settings``, and gets a mapping of the settings that were typed in it: those that were
    not are left to a recipe file or to the defaults. Options stand before and after the command's own parameters as
    ``settings`` does.

    Args:
        sections: the sections, in the order of help.
        without: settings that make no sense for the command.
        required: settings that have to be typed, as the command takes no recipe file.
        helps: what settings do in this command, where that is not what their declaration says.
        shown: the default of all settings in words, where the command takes it from somewhere else.
        first: the settings that most users need, which help shows first.

    """
    declared = {name: (section.panel, info) for section in sections for name, info in section.model_fields.items()}
    fields = {name: (MOST_USED, declared[name][1]) for name in first}
    fields |= {name: declared[name] for name in declared if name not in fields and name not in without}

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        signature = inspect.signature(command)
        own = [x.replace(kind=inspect.Parameter.KEYWORD_ONLY) for x in signature.parameters.values()]
        place = next(number for number, parameter in enumerate(own) if parameter.name == _PARAMETER)
        derived = [
            _parameter(name, panel, info, required=name in required, help_text=(helps or {}).get(name), shown=shown)
            for name, (panel, info) in fields.items()
        ]
        parameters = [*own[:place], *derived, *own[place + 1 :]]

        @functools.wraps(command)
        def run(**given: Any) -> int:
            typed = {name: given.pop(name) for name in fields}
            return command(**given, **{_PARAMETER: {name: x for name, x in typed.items() if x is not None and x != []}})

        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": int}
        return run

    return decorate


def _parameter(
    name: str, panel: str, info: FieldInfo, *, required: bool, help_text: str | None, shown: str | None
) -> inspect.Parameter:
    """Return the parameter by which typer makes the option of a setting, or the argument for the model."""
    declared, kind = setting_of(info), value_type(info)
    shown = shown if declared.uses and name not in PERMISSIONS else None
    text = help_text or declared.help
    values = () if declared.values else values_of(info)  # asking for these may import torch
    option: Any
    if name == _ARGUMENT:
        option = typer.Argument(help=text, show_default=False)
    elif kind is bool:
        flag = option_name(name)
        flags = f"{flag}/--no-{flag.removeprefix('--')}" if info.default else flag
        option = typer.Option(
            flags,
            help=text,
            rich_help_panel=panel,
            show_default=shown or (flag.removeprefix("--") if info.default else False),
        )
    else:
        names = (option_name(name), *((_SHORT[name],) if name in _SHORT else ()))
        option = typer.Option(
            *names,
            help=text,
            rich_help_panel=panel,
            show_default=shown or _shown(declared, info),
            metavar=declared.metavar or "|".join(values) or None,
            autocompletion=completion(info) if values or declared.values else None,
        )
    shown_type: Any = list[str] if is_list(info) else kind if kind in (bool, int, float, Path) else str
    if not required:
        shown_type = shown_type | None
    default = inspect.Parameter.empty if required else None
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[shown_type, option]
    )


def _shown(declared: Setting, info: FieldInfo) -> str | bool:
    """Return what help shows as an option's default."""
    if declared.shown is not None:
        return declared.shown
    default = info.default
    if info.is_required() or default is None or default == ():
        return False
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def completion(info: FieldInfo) -> Callable[[str], list[str]]:
    """Return what the shell completes a setting's value with; of a comma-separated list, its last part."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",") if is_list(info) else ("", "", incomplete)
        return [f"{before}{comma}{value}" for value in values_of(info) if value.startswith(last)]

    return complete
