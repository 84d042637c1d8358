"""Distortions of log-mels: each does its own, none reaches the padding."""

from dataclasses import fields, replace

import pytest
import torch

from s2igan.training.augment import (
    BELOW_DIRECT,
    DECAY,
    FLOOR_START,
    HIGHEST_BANDS,
    LOWEST_BANDS,
    SpeechAugment,
    augment_speech,
)

NOTHING = SpeechAugment(1.0, **{field.name: 0 for field in fields(SpeechAugment)[1:] if field.name != "rises"})


@pytest.fixture
def batch():
    rng = torch.Generator().manual_seed(0)
    mel = torch.randn(3, 60, 40, generator=rng)
    lengths = torch.tensor([60, 41, 50])
    for row, length in zip(mel, lengths, strict=True):
        row[length:] = 0
    return mel, lengths


def distort(batch, config, seed=1):
    return augment_speech(*batch, config, torch.Generator().manual_seed(seed))


def test_without_strength_nothing_happens(batch):
    mel, lengths = distort(batch, NOTHING)
    torch.testing.assert_close(mel, batch[0], atol=1e-4, rtol=1e-4)
    assert torch.equal(lengths, batch[1])


def test_strength_rises_between_two_shares_of_the_training(batch):
    config = SpeechAugment(strength=1.0, rises=(0.2, 0.6))
    for progress in (0.0, 0.2):
        still, _ = distort(batch, config.at(progress))
        torch.testing.assert_close(still, batch[0], atol=1e-4, rtol=1e-4)
    half = config.at(0.4)
    assert half.speed == pytest.approx(config.speed / 2)
    assert half.noise == pytest.approx(config.noise / 2)
    assert config.at(0.6) == config.at(1.0) == config


def test_padding_stays_zero(batch):
    mel, lengths = distort(batch, SpeechAugment())
    assert mel.shape[1] == lengths.max()
    for row, length in zip(mel, lengths, strict=True):
        assert (row[length:] == 0).all()
        assert row[:length].abs().sum() > 0


def test_the_same_draw_gives_the_same(batch):
    first, again, other = (distort(batch, SpeechAugment(), seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_speed_changes_the_length_within_bounds(batch):
    seen = torch.cat([distort(batch, replace(NOTHING, speed=0.2), seed)[1] / batch[1] for seed in range(20)])
    assert 0.79 < seen.min() < 0.85
    assert 1.15 < seen.max() < 1.21


def test_speed_keeps_the_order_of_events():
    mel = torch.linspace(-1, 1, 50)[None, :, None].repeat(1, 1, 40)
    stretched, lengths = distort((mel, torch.tensor([50])), replace(NOTHING, speed=0.3))
    assert lengths[0] != 50
    assert (stretched[0].diff(dim=0) > -1e-5).all()
    torch.testing.assert_close(stretched[0, -1], mel[0, -1], atol=0.05, rtol=0)


def test_a_telephone_leaves_the_middle_bands_and_noise_or_nothing_beside_them():
    mel = torch.randn(40, 60, 40, generator=torch.Generator().manual_seed(0))
    lengths = torch.full((40,), 60)
    heard, new_lengths = distort((mel, lengths), replace(NOTHING, telephone=1.0))
    assert torch.equal(new_lengths, lengths)
    inner = slice(LOWEST_BANDS[1] + 1, HIGHEST_BANDS[0])
    torch.testing.assert_close(heard[:, :, inner], mel[:, :, inner], atol=1e-4, rtol=1e-4)
    for outer in (slice(0, LOWEST_BANDS[0]), slice(HIGHEST_BANDS[1] + 1, None)):
        spread = heard[:, :, outer].flatten(1).std(dim=1)
        noisy = spread > 0.5
        assert (spread[~noisy] == 0).all()
        assert 10 < noisy.sum() < 30
        assert (spread[noisy] < 1.4).all()
        both = torch.stack([heard[noisy][:, :, outer].flatten(), mel[noisy][:, :, outer].flatten()])
        assert torch.corrcoef(both)[0, 1].abs() < 0.1


def test_a_share_of_the_utterances_is_by_telephone():
    mel = torch.ones(200, 20, 40)
    heard, _ = distort((mel, torch.full((200,), 20)), replace(NOTHING, telephone=0.3))
    assert 0.2 < ((heard - 1).abs().sum(dim=(1, 2)) > 1).float().mean() < 0.4


def test_in_a_room_a_sound_rings_on_and_falls_in_a_straight_line():
    mel = torch.full((50, 60, 40), -2.0)
    mel[:, 20] = 3.0
    heard, lengths = distort((mel, torch.full((50,), 60)), replace(NOTHING, reverberation=1.0))
    assert (heard >= mel - 1e-3).all()
    torch.testing.assert_close(heard[:, :20], mel[:, :20], atol=1e-3, rtol=0)  # nothing rings before its sound
    tail = heard[:, 21:30, 0]
    steps = tail.diff(dim=1)
    assert (steps.min(dim=1).values > -DECAY[1] - 1e-3).all()
    assert (steps.max(dim=1).values < -DECAY[0] + 1e-3).all()
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps), atol=2e-3, rtol=0)
    assert ((3 - heard[:, 21, 0]) > BELOW_DIRECT[0]).all()
    assert lengths.tolist() == [60] * 50


def test_local_speed_bends_time_within_the_utterance():
    """A ramp stays a ramp in order, begins and ends where it did, but is no longer straight."""
    mel = torch.linspace(-1, 1, 100)[None, :, None].repeat(1, 1, 40)
    bent, lengths = distort((mel, torch.tensor([100])), replace(NOTHING, local_speed=0.5))
    assert lengths[0] == 100
    assert (bent[0].diff(dim=0) > 0).all()
    torch.testing.assert_close(bent[0, [0, -1]], mel[0, [0, -1]], atol=0.05, rtol=0)
    assert (bent - mel).abs().max() > 0.03
    steps = bent[0, 1:-1, 0].diff() / mel[0, :, 0].diff().mean()
    assert 1 / 1.5**2 < steps.min() < 0.95
    assert 1.05 < steps.max() < 1.5**2


def test_blur_smooths(batch):
    blurred, _ = distort(batch, replace(NOTHING, blur=1.0))
    rough = [(mel[0, 1:] - mel[0, :-1]).abs().mean() for mel in (batch[0], blurred)]
    assert rough[1] < 0.95 * rough[0]


def test_the_quiet_drowns_in_the_background_and_the_loud_does_not():
    mel = torch.linspace(-3, 3, 60)[None, :, None].repeat(1, 1, 40)
    drowned, _ = distort((mel, torch.tensor([60])), replace(NOTHING, floor=1.0))
    steps = drowned[0, :, 0].diff()
    quiet = mel[0, :-1, 0] < FLOOR_START - 0.7
    loud = mel[0, :-1, 0] > FLOOR_START + 1.7
    assert steps[quiet].max() < 0.1 * steps[loud].min()
    torch.testing.assert_close(drowned.mean(dim=1), torch.zeros(1, 40), atol=1e-5, rtol=0)
    torch.testing.assert_close(drowned.std(dim=1, correction=0), torch.ones(1, 40), atol=1e-3, rtol=0)


def test_bands_are_shifted():
    mel = torch.zeros(1, 10, 40)
    mel[:, :, 20] = 1.0
    centres = []
    for seed in range(20):
        moved, _ = distort((mel, torch.tensor([10])), replace(NOTHING, band_shift=3.0), seed)
        centres.append(float((moved[0, 5] * torch.arange(40)).sum() / moved[0, 5].sum()))
    assert 17 <= min(centres) < 19
    assert 21 < max(centres) <= 23


def test_tilt_is_a_slope_over_the_bands(batch):
    tilted, _ = distort(batch, replace(NOTHING, tilt=0.5))
    slope = (tilted - batch[0])[0]
    torch.testing.assert_close(slope[0], slope[30], atol=1e-4, rtol=0)
    torch.testing.assert_close(slope[0], -slope[0].flip(0), atol=1e-4, rtol=0)
    assert 0 < slope[0].abs().max() <= 0.5


def test_noise_is_added(batch):
    noisy, _ = distort(batch, replace(NOTHING, noise=0.3))
    deviations = (noisy - batch[0])[1, :41].std()
    assert 0 < deviations < 0.33


@pytest.mark.parametrize(("kind", "axis"), [("time", 1), ("band", 0)])
def test_masks_are_stretches_of_zeros(batch, kind, axis):
    options = {"time": {"time_masks": 1, "time_mask_frames": 20}, "band": {"band_masks": 1, "band_mask_bands": 6}}[kind]
    longest = 0
    for seed in range(10):
        masked, _ = distort(batch, replace(NOTHING, **options), seed)
        for row, length in zip(masked, batch[1], strict=True):
            silent = (row[:length] == 0).all(dim=axis)
            assert int(silent.diff().sum()) <= 2  # one stretch
            longest = max(longest, int(silent.sum()))
    assert 2 <= longest <= {"time": 20, "band": 6}[kind]
