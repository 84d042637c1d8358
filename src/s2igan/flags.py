"""Every hyper-parameter of a recipe as a flag: `--rdg.batch-size 48` sets `recipe.rdg.batch_size`.

tyro makes the flags from the dataclasses: their docstrings are the help, and the recipe's values are the defaults. The
recipe's name and training set have no flags, since they are no hyper-parameters; nor has the kind of speech encoder,
which the method decides, but its fields have.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

from tyro.conf import AvoidSubcommands, DisallowNone, FlagConversionOff

from s2igan.recipes import customised, groups
from s2igan.training.recipe import Recipe


def with_flags(command: Callable[..., None], recipe: Recipe) -> Callable[..., None]:
    """A command with a flag for every hyper-parameter of a recipe.

    Args:
        command: has only keyword arguments, of which `settings` will be the changed recipe.
        recipe: what the flags change.
    """
    defaults = groups(recipe)

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
    return extended
