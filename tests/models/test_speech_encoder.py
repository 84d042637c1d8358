import pytest
import torch

from s2igan.errors import UserError
from s2igan.models import speech_encoder
from s2igan.models.blocks import seeded
from s2igan.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig, conv_length

LENGTHS = torch.tensor([33, 60, 16, 41])


def encoder(**options):
    with seeded(0):
        config = SpeechEncoderConfig(n_mels=5, conv_channels=(6, 7), hidden=4, attention_hidden=3, **options)
        return SpeechEncoder(config).eval()


def batch():
    """Normalised log-mels of unsorted lengths, zero-padded."""
    mel = torch.randn(4, 60, 5, generator=torch.Generator().manual_seed(0))
    return mel * (torch.arange(60)[None, :, None] < LENGTHS[:, None, None])


@pytest.fixture(autouse=True)
def no_gradients(request):
    with torch.set_grad_enabled("gradient" in request.node.name):
        yield


def test_size_of_the_paper():
    with torch.device("meta"):
        assert sum(p.numel() for p in SpeechEncoder(SpeechEncoderConfig()).parameters()) == 7_025_344
    assert SpeechEncoderConfig().embedding == 1024


def test_lengths_after_the_convolutions():
    for frames in (16, 17, 61, 100):
        assert conv_length(frames) == (frames - 4) // 2
        assert encoder().convolve(torch.zeros(1, frames, 5)).shape[2] == conv_length(conv_length(frames))
    assert conv_length(torch.tensor([16, 61])).tolist() == [6, 28]


def test_shortest_utterance():
    assert SpeechEncoderConfig().min_frames == 16
    assert SpeechEncoderConfig(conv_channels=(64,)).min_frames == 6
    assert conv_length(conv_length(16)) == 1
    encoder()(torch.randn(1, 16, 5), torch.tensor([16]))
    with pytest.raises(UserError, match=r"utterance 1 of the batch has 15 mel frames.*need 16"):
        encoder()(torch.randn(2, 40, 5), torch.tensor([40, 15]))


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
class TestMasked:
    def test_unit_length(self, rnn):
        torch.testing.assert_close(encoder(rnn=rnn)(batch(), LENGTHS).norm(dim=1), torch.ones(4))

    def test_companions_and_padding_change_nothing(self, rnn):
        model, mel = encoder(rnn=rnn), batch()
        together = model(mel, LENGTHS)
        alone = [model(mel[i : i + 1, :n], n[None]) for i, n in enumerate(LENGTHS)]
        torch.testing.assert_close(together, torch.cat(alone))
        longer = torch.nn.functional.pad(mel, (0, 0, 0, 23))
        torch.testing.assert_close(model(longer, LENGTHS), together)

    def test_what_stands_in_the_padding_changes_nothing(self, rnn):
        model, mel = encoder(rnn=rnn), batch()
        dirty = torch.where(mel == 0, 7.0, mel)
        torch.testing.assert_close(model(dirty, LENGTHS), model(mel, LENGTHS))

    def test_order_of_the_batch(self, rnn):
        model, mel, order = encoder(rnn=rnn), batch(), torch.tensor([2, 0, 3, 1])
        torch.testing.assert_close(model(mel[order], LENGTHS[order]), model(mel, LENGTHS)[order])


def test_option_mask_padding():
    """Without it (as the reference) padding takes attention; the longest utterance has none."""
    masked, unmasked = (encoder(mask_padding=mask)(batch(), LENGTHS) for mask in (True, False))
    difference = (masked - unmasked).abs().amax(dim=1)
    assert difference[1] < 1e-6
    assert (difference[[0, 2, 3]] > 1e-3).all()


def test_padding_beyond_the_longest_changes_nothing_unmasked():
    model, mel = encoder(mask_padding=False), batch()
    longer = torch.nn.functional.pad(mel, (0, 0, 0, 23))
    torch.testing.assert_close(model(longer, LENGTHS), model(mel, LENGTHS))


def test_option_rnn():
    gru, lstm = encoder(), encoder(rnn="lstm")
    assert gru(batch(), LENGTHS).shape == lstm(batch(), LENGTHS).shape
    count = [sum(p.numel() for p in model.rnn.parameters()) for model in (gru, lstm)]
    assert 3 * count[1] == 4 * count[0]  # four gates for three


def test_attention_weighs_every_channel_by_itself():
    model, mel = encoder(), batch()
    h, lengths = model.frames(mel, LENGTHS)
    pooled, alpha = model.attention(h, lengths)
    torch.testing.assert_close(alpha.sum(dim=1), torch.ones(4, 8))
    for row, length in enumerate(lengths):
        assert (alpha[row, length:] == 0).all()
    assert alpha[1].std(dim=1).max() > 1e-4  # a softmax over time that channels shared would give 0
    torch.testing.assert_close(pooled, (alpha * h).sum(dim=1))


@pytest.mark.parametrize("rnn", ["gru", "lstm"])
def test_a_gradient_reaches_every_parameter(rnn):
    model = encoder(rnn=rnn).train()
    (model(batch(), LENGTHS) * torch.arange(8)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0 or name == "attention.out.bias", name


@pytest.mark.parametrize("stride", [2, 3])
def test_a_longer_stride_leaves_fewer_frames_and_one_of_the_shortest_utterance(stride: int) -> None:
    config = SpeechEncoderConfig(n_mels=5, conv_channels=(4, 6), hidden=3, attention_hidden=2, conv_stride=stride)
    network = SpeechEncoder(config).eval()
    assert network.convolve(torch.zeros(1, config.min_frames, 5)).shape[2] == 1
    assert network.convolve(torch.zeros(1, 100, 5)).shape[2] == conv_length(conv_length(100, stride), stride)


def test_relu_and_pooled_norm_change_what_they_should() -> None:
    torch.manual_seed(0)
    sizes = {"n_mels": 5, "conv_channels": (4, 6), "hidden": 3, "attention_hidden": 2}
    x, lengths = torch.randn(8, 40, 5), torch.full((8,), 40)
    plain, relu = (
        SpeechEncoder(SpeechEncoderConfig(**sizes, conv_activation=name)).train() for name in ("none", "relu")
    )
    assert (plain.convolve(x) < 0).any()
    assert (relu.convolve(x) >= 0).all()
    centred = SpeechEncoder(SpeechEncoderConfig(**sizes, normalize_pooled=True)).train()
    spread = [(network(x, lengths) @ network(x, lengths).T).mean().item() for network in (plain, centred)]
    assert spread[1] < 0.5 * spread[0]  # what all utterances share is gone


def long_batch(*frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    mel = torch.randn(len(frames), max(frames), 40, generator=torch.Generator().manual_seed(3))
    for row, length in zip(mel, frames, strict=True):
        row[length:] = 0
    return mel, torch.tensor(frames)


def test_long_utterances_are_read_in_windows_and_short_ones_beside_them_as_alone(monkeypatch):
    config = speech_encoder.SpeechEncoderConfig(hidden=8, conv_channels=(8, 8), attention_hidden=8)
    encoder = speech_encoder.SpeechEncoder(config).eval()
    monkeypatch.setattr(speech_encoder, "WINDOW_FRAMES", 400)
    monkeypatch.setattr(speech_encoder, "OVERLAP_FRAMES", 200)
    mel, lengths = long_batch(1500, 300, 401)
    with torch.no_grad():
        together = encoder(mel, lengths)
        alone = encoder(mel[1:2, :300], lengths[1:2])
        frames, frame_lengths = encoder.frames(mel, lengths)
        monkeypatch.setattr(speech_encoder, "WINDOW_FRAMES", 10_000)
        whole, _ = encoder.frames(mel, lengths)
    torch.testing.assert_close(together[1:2], alone, rtol=0, atol=1e-5)
    assert frames.shape == whole.shape
    for row, length in enumerate(frame_lengths.tolist()):
        assert (frames[row, length:] == 0).all()
    # A recurrent network forgets: with a run-up the windows give nearly what one pass gives.
    assert torch.nn.functional.cosine_similarity(frames[0], whole[0]).min() > 0.99
    assert torch.equal(frames[1], whole[1])


def test_every_step_of_a_long_utterance_is_read(monkeypatch):
    """A change anywhere changes the embedding."""
    encoder = speech_encoder.SpeechEncoder(speech_encoder.SpeechEncoderConfig(hidden=4, conv_channels=(4, 4))).eval()
    monkeypatch.setattr(speech_encoder, "WINDOW_FRAMES", 200)
    monkeypatch.setattr(speech_encoder, "OVERLAP_FRAMES", 80)
    mel, lengths = long_batch(1000)
    with torch.no_grad():
        before = encoder(mel, lengths)
        for at in range(5, 1000, 83):
            changed = mel.clone()
            changed[0, at : at + 8] += 3
            assert not torch.equal(encoder(changed, lengths), before), at


def test_local_frames_in_pieces_are_those_of_one_pass(monkeypatch):
    encoder = speech_encoder.SpeechEncoder(speech_encoder.SpeechEncoderConfig(hidden=4, conv_channels=(4, 4))).eval()
    mel, lengths = long_batch(1500, 300, 401)
    with torch.no_grad():
        whole, pairs = encoder.local_frames(mel, lengths, 16, 8)
        monkeypatch.setattr(speech_encoder, "WINDOWS_AT_ONCE", 7)
        pieces, same = encoder.local_frames(mel, lengths, 16, 8)
    assert torch.equal(pairs, same)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-6)
