"""The warm start trains the generator as a decoder, in place, by the losses that it names."""

from dataclasses import replace

import pytest
import torch

from s2igan.losses import kl_loss
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.training.autoencoder import perceptual_distance
from s2igan.training.beyond import warm_start
from s2igan.training.beyond.warm_start import WarmStart, WarmStartBatch
from s2igan.training.beyond.warm_start_stage import WarmStartStage
from s2igan.training.data import pyramid
from s2igan.training.trainer import TrainerConfig
from tiny_corpus import take_step, tiny_recipe
from toy_stages import toy_stage

SIZES = GeneratorConfig(embedding=6, condition=3, z=4, width=8, resolutions=(16, 32))
CONFIG = WarmStart(TrainerConfig(steps=1), batch_size=4, encoder_width=4)
CPU = torch.device("cpu")


def stages(name, store, folder):
    """A toy stage of the RDG, and its warm start."""
    stage = toy_stage(name, "rdg", store, folder, CPU)
    return stage, WarmStartStage(replace(CONFIG, batch_size=6, encoder_width=2), stage)


def made(config=CONFIG):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(SIZES)
    return warm_start.make_state(config, generator, seed=0, device=CPU)


def batch(**changes):
    rng = torch.Generator().manual_seed(1)
    given = {
        "real": pyramid(torch.rand(4, 3, 32, 32, generator=rng) * 2 - 1, SIZES.resolutions),
        "embedding": torch.nn.functional.normalize(torch.randn(4, 6, generator=rng), dim=1),
        "noise": torch.randn(4, 4, generator=rng),
        "eps": torch.randn(4, 3, generator=rng),
    }
    return WarmStartBatch(**(given | changes))


def test_contours_are_where_colours_change_and_tell_none():
    picture = torch.full((1, 3, 8, 8), -0.5)
    picture[:, 0, :, 4:] = 0.7  # in one colour, to the right of the middle
    edges = warm_start.contours(picture)
    assert edges.shape == (1, 1, 4, 4)
    assert (edges[..., 1] > 1).all()
    assert not edges[..., [0, 2, 3]].any()
    others = (-picture, picture[:, [2, 1, 0]], 0.5 * picture)  # other hues, and less contrast
    assert all(torch.allclose(warm_start.contours(other), edges, rtol=0.02) for other in others)


def test_the_losses_are_those_of_a_conditional_variational_autoencoder():
    state, given = made(), batch()
    mu, logvar = state.encoder(given.real[32])
    out = state.generator(given.embedding, mu + (logvar / 2).exp() * given.noise, given.eps)
    small, large = (
        (drawn - real).abs().mean() for drawn, real in zip(out.images, (given.real[16], given.real[32]), strict=True)
    )
    losses = warm_start.step(made(), given, CONFIG)
    torch.testing.assert_close(losses["l1"], (small + large) / 2)
    torch.testing.assert_close(losses["kl_z"], kl_loss(mu, logvar))
    torch.testing.assert_close(losses["kl_c"], kl_loss(out.mu, out.logvar))
    features = (state.features(images) for images in (out.images[-1], given.real[32]))
    torch.testing.assert_close(losses["perceptual"], perceptual_distance(*features))


def test_what_each_loss_weighs_and_its_sign(monkeypatch):
    given, original = [], warm_start.backward
    monkeypatch.setattr(warm_start, "backward", lambda loss: given.append(loss.detach()) or original(loss))
    losses = warm_start.step(made(), batch(), replace(CONFIG, perceptual=0.3, kl_z=0.2, kl_c=0.07))
    expected = losses["l1"] + 0.3 * losses["perceptual"] + 0.2 * losses["kl_z"] + 0.07 * losses["kl_c"]
    torch.testing.assert_close(given, [expected])


def test_a_gradient_reaches_every_weight_of_generator_and_encoder():
    state = made()
    before = [p.detach().clone() for network in (state.generator, state.encoder) for p in network.parameters()]
    warm_start.step(state, batch(), CONFIG)
    after = [p for network in (state.generator, state.encoder) for p in network.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("weight", ["perceptual", "kl_z", "kl_c"])
def test_weights_change_where_the_step_leads(weight):
    states = []
    for value in (0.0, 1.0):
        config = replace(CONFIG, **{weight: value})
        states.append(made(config))
        warm_start.step(states[-1], batch(), config)
    a, b = (state.generator.initial.fc.weight for state in states)
    assert not torch.equal(a, b)


def test_it_learns_to_rebuild_a_picture():
    config = replace(CONFIG, kl_z=1e-4, kl_c=1e-4)
    state, given = made(config), batch(real=pyramid(torch.full((4, 3, 32, 32), 0.5), SIZES.resolutions))
    losses = [warm_start.step(state, given, config) for _ in range(40)]
    assert losses[-1]["l1"] < 0.6 * losses[0]["l1"]


def test_the_stage_trains_the_generator_of_the_rdg_and_leaves_the_rest(store, tmp_path):
    stage, warm = stages("birds-rdg", store, tmp_path)
    generator, average = stage.state.generator, stage.state.ema.parameters["initial.fc.weight"].clone()
    discriminators = {side: network.state_dict() for side, network in stage.state.discriminators.items()}
    before = {side: {k: v.clone() for k, v in state.items()} for side, state in discriminators.items()}
    take_step(warm, 0)
    assert warm.state.generator is generator
    assert not torch.equal(generator.initial.fc.weight, average)
    assert all(torch.equal(discriminators[s][k], v) for s, of in before.items() for k, v in of.items())
    stage.begin_average()
    assert torch.equal(stage.state.ema.parameters["initial.fc.weight"], generator.initial.fc.weight)


def test_a_batch_is_pictures_with_descriptions_of_their_own_and_follows_from_the_step(store, tmp_path):
    stage, warm = stages("birds-rdg", store, tmp_path)
    reader = warm.reader
    read, again, other = reader.read(3), reader.read(3), reader.read(4)
    assert all(torch.equal(read[name], again[name]) for name in read)
    assert not torch.equal(read["noise"], other["noise"])
    train = stage.train
    spoken = [reader.speech_embeddings.tolist().index(row.tolist()) for row in read["embedding"]]
    said = [train.store.image_index[train.utterances[row]] for row in spoken]
    assert said == list(train.images[train.positions(3, 6, stage.seed)])
    assert len(reader.items(3)) == 6


def test_evaluating_writes_a_sheet_and_changes_nothing(store, tmp_path):
    _, warm = stages("birds-rdg", store, tmp_path)
    before = {name: value.clone() for name, value in warm.state.generator.state_dict().items()}
    scores = warm.evaluate(2)
    assert 0 < scores["validation_l1"] < 2
    assert (warm.samples / "warm_start-00000002.png").exists()
    assert all(torch.equal(value, before[name]) for name, value in warm.state.generator.state_dict().items())
    assert warm.state.generator.training


def test_a_speech_encoder_that_trains_along_is_heard_as_it_is(store, tmp_path):
    stage, warm = stages("end-to-end", store, tmp_path)
    before = [p.detach().clone() for p in stage.speech.parameters()]
    take_step(warm, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, stage.speech.parameters(), strict=True))


def test_the_paper_s_recipes_have_none():
    assert not tiny_recipe().beyond.warm_start.trains


def test_the_generator_s_rate_rises_while_the_discriminators_are_ahead(store, tmp_path):
    stage, _ = stages("birds-rdg", store, tmp_path)
    stage.config = replace(stage.config, generator_warmup_steps=4)
    for step, share in ((0, 0.25), (1, 0.5), (3, 1.0), (9, 1.0)):
        stage.update(step)
        assert stage.state.generator_optimiser.param_groups[0]["lr"] == share * stage.config.learning_rate
        rates = {o.param_groups[0]["lr"] for o in stage.state.discriminator_optimisers.values()}
        assert rates == {stage.config.discriminator_learning_rate}
