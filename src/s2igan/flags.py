"""Every hyper-parameter of a recipe as a flag: `--rdg.batch-size 48` sets `recipe.rdg.batch_size`.

tyro makes the flags from the dataclasses: their docstrings are the help, and the recipe's values are the defaults. The
recipe's name and training set have no flags, since they are no hyper-parameters; nor has the kind of speech encoder,
which the method decides, but its fields have. A group that may be None is turned on by setting one of its fields, and
off by `--sen.augment None`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass, replace
from types import NoneType
from typing import Annotated, Any, get_args, get_type_hints

from tyro.conf import AvoidSubcommands, DisallowNone, FlagConversionOff

from s2igan.recipes import customised, groups
from s2igan.training.recipe import Recipe


def with_flags(
    command: Callable[..., None], recipe: Recipe, words: Sequence[str]
) -> tuple[Callable[..., None], list[str]]:
    """A command with a flag for every hyper-parameter of a recipe, and the words to parse with it.

    Args:
        command: has only keyword arguments, of which `settings` will be the changed recipe.
        recipe: what the flags change.
        words: the command line.
    """
    defaults, rest = groups(recipe), list(words)
    for name, config in defaults.items():
        defaults[name], rest = _switch_groups(config, name, rest)

    def extended(**options: Any) -> None:
        settings = {name: options.pop(name) for name in defaults}
        command(**options, settings=customised(recipe, settings))

    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "settings"]
    hints = get_type_hints(command, include_extras=True)
    parameters = [parameter.replace(annotation=Annotated[hints[parameter.name], DisallowNone]) for parameter in own]
    for name, config in defaults.items():
        flags: Any = Annotated[type(config), AvoidSubcommands, FlagConversionOff]
        parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=config, annotation=flags))
    extended.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    extended.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(extended).pop("__wrapped__", None)  # of a type checker around it, behind which tyro would look
    extended.__doc__ = command.__doc__
    off = [flag for name, config in defaults.items() for flag in _groups_off(config, name)]
    if off:
        note = f"Off in this recipe, and on with its defaults as soon as a field of it is set: {', '.join(off)}."
        title, _, arguments = (command.__doc__ or "").partition("\n\n")
        extended.__doc__ = f"{title}\n\n    {note}\n\n{arguments}"
    return extended, rest


def _groups(config: Any) -> Iterator[tuple[str, Any, type[Any] | None]]:
    """Name and value of the dataclasses inside a dataclass; and the class of those that may be None."""
    for name, hint in get_type_hints(type(config)).items():
        kinds = [kind for kind in get_args(hint) if is_dataclass(kind)] if NoneType in get_args(hint) else []
        value = getattr(config, name)
        if kinds or is_dataclass(value):
            yield name, value, kinds[0] if kinds else None  # type: ignore[misc]


def _flag(path: str) -> str:
    return f"--{path.removeprefix('--')}".replace("_", "-")


def _switch_groups(config: Any, path: str, words: list[str]) -> tuple[Any, list[str]]:
    """Turns on the groups of which the words set a field, and off those that the words set to None.

    Returns the configuration, and the words that are left.
    """
    for name, value, kind in _groups(config):
        flag = _flag(f"{path}.{name}")
        off = [at for at, word in enumerate(words[:-1]) if _flag(word) == flag and words[at + 1] == "None"]
        if kind is not None and off:
            value, words = None, words[: off[0]] + words[off[0] + 2 :]
        elif kind is not None and value is None and any(_flag(word).startswith(f"{flag}.") for word in words):
            value = kind()
        if value is not None:
            value, words = _switch_groups(value, f"{path}.{name}", words)
        config = replace(config, **{name: value})
    return config, words


def _groups_off(config: Any, path: str) -> Iterator[str]:
    for name, value, _ in _groups(config):
        if value is None:
            yield _flag(f"{path}.{name}")
        else:
            yield from _groups_off(value, f"{path}.{name}")
