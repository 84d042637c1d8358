from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from s2igan.metrics.inception_score import inception_score

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics.safetensors"


@pytest.mark.parametrize("splits", [1, 10])
@pytest.mark.parametrize(("convention", "remainder"), [("script", "drop"), ("alt", "spread")])
def test_golden(splits, convention, remainder):
    golden = load_file(GOLDEN)
    result = inception_score(golden["is/probs"], splits, remainder=remainder)
    np.testing.assert_allclose(result, golden[f"is/{convention}_splits{splits}"], atol=1e-6)


def test_bounds():
    certain = np.eye(5)[np.tile(np.arange(5), 4)]
    assert inception_score(certain, 1)[0] == pytest.approx(
        5.0
    )  # every class, each certain: as many as there are classes
    assert inception_score(np.full((20, 5), 0.2), 4) == pytest.approx((1.0, 0.0))  # nothing told apart


def test_refuses_what_is_no_probability():
    with pytest.raises(ValueError, match="of sum 1"):
        inception_score(np.ones((4, 3)), 2)
    with pytest.raises(ValueError, match="4 rows cannot be cut into 10 splits"):
        inception_score(np.full((4, 2), 0.5))
