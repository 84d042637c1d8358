"""Shifts move pictures by whole pixels, alike at every scale, and only as discriminators see them."""

import pytest
import torch

from s2igan.errors import UserError
from s2igan.training.beyond.translation import Translation, draw_shifts, translated


def test_a_shift_moves_down_and_right_and_middle_grey_comes_in():
    image = torch.arange(1.0, 49.0).view(1, 3, 4, 4)
    moved = translated(image, torch.tensor([[0.25, -0.5]]))
    expected = torch.zeros(1, 3, 4, 4)
    expected[..., 1:, :2] = image[..., :3, 2:]
    torch.testing.assert_close(moved, expected)


def test_every_picture_has_its_own_shift_in_shares_of_its_side():
    images = torch.randn(2, 3, 8, 8)
    larger = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    shifts = torch.tensor([[0.25, 0.0], [0.0, -0.125]])
    moved = translated(images, shifts)
    torch.testing.assert_close(moved[0, :, 2:], images[0, :, :6])
    torch.testing.assert_close(moved[1, :, :, :7], images[1, :, :, 1:])
    torch.testing.assert_close(translated(larger, shifts), moved.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_gradients_go_back_to_the_pixels_that_are_still_seen():
    images = torch.randn(1, 3, 4, 4, requires_grad=True)
    translated(images, torch.tensor([[0.5, 0.0]])).sum().backward()
    torch.testing.assert_close(images.grad[0, 0], torch.tensor([[1.0] * 4] * 2 + [[0.0] * 4] * 2))


def test_shifts_are_drawn_up_to_the_share_and_differ_between_kinds():
    shifts = draw_shifts(Translation(0.1), 500, torch.Generator().manual_seed(0))
    assert shifts.shape == (500, 3, 2)
    assert 0.095 < shifts.max() <= 0.1
    assert -0.1 <= shifts.min() < -0.095
    assert not torch.equal(shifts[:, 0], shifts[:, 2])


def test_a_share_of_more_than_the_picture_is_refused():
    with pytest.raises(UserError, match=r"share 1\.5 is no shift within a picture"):
        Translation(1.5)
