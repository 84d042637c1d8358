"""The yardstick of stage 1 takes the project's step: the same losses, and the same weights after it."""

import plain_sen_step as yardstick
import torch

from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.training.sen import SENConfig
from s2igan.training.trainer import TrainerConfig


def test_plain_and_ours_are_one_step():
    config = SENConfig(
        trainer=TrainerConfig(steps=1), batch_size=3, image_size=128, image=ImageEncoderConfig(backbone="inception_v3")
    )
    plain, ours = (yardstick.Step(config, "float32", written_plainly=written) for written in (True, False))
    assert type(plain.state.speech) is not type(ours.state.speech)
    assert type(plain.state.image) is not type(ours.state.image)
    first, second = plain(4), ours(4)
    assert first.keys() == second.keys()
    for name in first.keys() - {"batch_recall"}:  # whose nearest image hangs on the last bit: all look alike here
        torch.testing.assert_close(second[name], first[name], atol=1e-4, rtol=1e-4)
    for mine, other in zip(ours.state.speech.parameters(), plain.state.speech.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=2 * config.learning_rate, rtol=0)  # Adam's step has that size
    states = [step.state for step in (plain, ours)]
    drawn = [state.optimiser.state[state.speech.rnn.weight_hh_l0]["exp_avg"] for state in states]  # of the gradient
    torch.testing.assert_close(*drawn, atol=1e-4 * float(drawn[0].abs().max()), rtol=1e-3)
