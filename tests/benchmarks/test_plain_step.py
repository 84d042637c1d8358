"""The yardstick is the golden step as well: held to the same record, by the same tests, as the project's own."""

import importlib.util
import sys
from pathlib import Path

import plain_step as yardstick
import pytest

ROOT = Path(__file__).parents[2]


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(ROOT / "tests" / "golden"))  # for its own imports
golden = load("golden_of_the_plain_step", ROOT / "tests" / "golden" / "test_golden_step.py")


@pytest.fixture(scope="module")
def run():
    """`run` of the golden test with the plain step and plain networks in the place of ours."""
    with pytest.MonkeyPatch.context() as patch:
        made = golden.rdg.make_state
        patch.setattr(golden.rdg, "make_state", lambda *args, **options: yardstick.plain(made(*args, **options)))
        patch.setattr(golden.rdg, "step", yardstick.plain_step)
        return golden.recorded()


for name in (
    "losses_of_the_discriminators",
    "losses_of_the_relation_supervisor",
    "losses_of_the_generator",
    "output_of_the_generator",
    "gradients",
    "state_after",
    "moving_average",
):
    globals()[f"test_{name}"] = getattr(golden, f"test_{name}")


def test_it_is_plain(run):
    """Every part that the project computes in its own way is computed in the plain way."""
    state = yardstick.plain(
        golden.rdg.make_state(
            golden.CONFIG, image_embedding=32, encode=None, speech=None, seed=0, device=golden.torch.device("cpu")
        )
    )
    kinds = [type(part) for network in golden.networks(state).values() for part in network.modules()]
    assert not set(kinds) & set(yardstick.PLAIN)
    assert kinds.count(yardstick.PlainUpBlock) == 6
    assert kinds.count(yardstick.PlainConcatConv3x3) == 5
