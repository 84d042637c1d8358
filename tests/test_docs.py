"""What the documents name exists: functions, classes, options, tests, flags and files."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

from s2igan import cli

ROOT = Path(__file__).parents[1]
METHOD = (ROOT / "docs" / "method.md").read_text()
NAMES = sorted(set(re.findall(r"`(s2igan(?:\.\w+)+)`", METHOD)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)?)`", METHOD)))
OPTIONS = sorted(
    {
        (option, owner)
        for names, owner in re.findall(r"((?:`\w+`, )*`\w+`) of\s`(s2igan[\w.]+)`", METHOD)
        for option in re.findall(r"\w+", names)
    }
)
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for folder in ("", "docs/", "models/*/", "benchmarks/")
    for path in ROOT.glob(f"{folder}*.md")
}
OLD_NAMES = "CHANGELOG.md"
"""Also names what is gone."""
COMMANDS = sorted(
    {
        tuple(shlex.split(line, comments=True))
        for name, page in PAGES.items()
        if name != OLD_NAMES
        for line in re.findall(r"^(?:torchrun .* -m )?(s2igan [a-z].*)$|`(s2igan [a-z][^`\n]*)`", page, flags=re.M)
        for line in line
        if line
    }
)


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
        for row in re.findall(r"^\| ([\d, ]+) \| [^|]+\| `s2igan", METHOD, flags=re.M)
        for number in row.split(", ")
    }
    assert equations == {str(number) for number in range(1, 13)}
    differences = re.findall(r"^\| (\d+) \|(?:[^|]+\|){6}$", METHOD, flags=re.M)
    assert differences == [str(number) for number in range(1, 12)]
    sections = re.findall(r"^## (\d)\.", METHOD, flags=re.M)
    assert sections == [str(number) for number in range(1, 10)]  # the code cites them
    assert len(TESTS) > 50
    assert len(NAMES) > 50
    assert len(OPTIONS) > 15


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        path, _, heading = target.partition("#")
        if re.match(r"https?:", path):
            continue
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), flags=re.M)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_the_pages_that_the_code_cites_exist():
    for folder in ("src", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == Path(__file__):
                continue
            text = " ".join(path.read_text().split())
            for page in re.findall(r"docs/[\w-]+\.md", text):
                assert (ROOT / page).exists(), path
            for section in re.findall(r"method\.md,? (?:section )?(\d+)", text):
                assert 1 <= int(section) <= 9, path


@pytest.fixture(scope="module")
def flags_of():
    """The flags that a command's help lists."""
    known = {}

    def flags(words, capsys):
        if words not in known:
            with pytest.raises(SystemExit):
                cli.main([*words, "--help"])
            known[words] = set(re.findall(r"--[a-z][\w.-]*", capsys.readouterr().out))
        return known[words]

    return flags


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_flags_of_a_command_exist(command, flags_of, capsys):
    words = tuple("birds" if word == "RECIPE" else word for word in command[1:])
    if words[0] in ("prepare", "train") and len(words) > 1:
        about = words[:2]  # each corpus and each recipe has flags of its own
    elif words[0] == "run":
        about = ("run", "folder", "--recipe", words[words.index("--recipe") + 1] if "--recipe" in words else "birds")
    else:
        about = words[:1]
    asked = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    assert asked <= flags_of(about, capsys)


def test_commands_were_found():
    assert len(COMMANDS) > 40
    assert {command[1] for command in COMMANDS} >= {"prepare", "validate", "run", "train", "generate", "evaluate"}
