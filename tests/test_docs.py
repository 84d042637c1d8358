"""What the documents name exists: functions, classes, options and tests."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONCEPTS = (ROOT / "docs" / "concepts.md").read_text()
NAMES = sorted(set(re.findall(r"`(s2igan(?:\.\w+)+)`", CONCEPTS)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", CONCEPTS)))
OPTIONS = [
    (option, owner)
    for names, owner in re.findall(r"((?:`\w+`, )*`\w+`) of\s`(s2igan[\w.]+)`", CONCEPTS)
    for option in re.findall(r"\w+", names)
]


def lookup(name):
    """The object of a dotted name: the longest importable module, then attributes."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            thing = getattr(thing, attribute)
        return thing
    raise AssertionError(name)


@pytest.mark.parametrize("name", NAMES)
def test_the_code_exists(name):
    assert lookup(name) is not None


@pytest.mark.parametrize("name", TESTS)
def test_the_test_exists(name):
    path, _, function = name.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    assert not function or function in {
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize(("option", "owner"), OPTIONS)
def test_the_option_exists(option, owner):
    known = lookup(owner)
    assert option in (getattr(known, "__dataclass_fields__", None) or inspect.signature(known).parameters)


def test_every_equation_and_every_difference_is_there():
    equations = {
        number
        for row in re.findall(r"^\| ([\d, ]+) \| [^|]+\| `s2igan", CONCEPTS, flags=re.M)
        for number in row.split(", ")
    }
    assert equations == {str(number) for number in range(1, 13)}
    differences = re.findall(r"^\| (\d+) \|(?:[^|]+\|){6}$", CONCEPTS, flags=re.M)
    assert differences == [str(number) for number in range(1, 12)]
    assert len(TESTS) > 25
    assert len(NAMES) > 35
    assert len(OPTIONS) > 18
