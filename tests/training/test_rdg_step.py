"""The options of stage 2's step at toy width; the step itself is proven in tests/golden/test_golden_step.py."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from s2igan.errors import UserError
from s2igan.models.generator import GeneratorConfig
from s2igan.training import rdg
from s2igan.training.beyond.noise_penalty import NoisePenalty
from s2igan.training.data import pyramid
from s2igan.training.trainer import TrainerConfig

SCALES = (8, 16)
CONFIG = rdg.RDGConfig(
    trainer=TrainerConfig(steps=1),
    generator=GeneratorConfig(embedding=6, condition=3, z=4, width=4, resolutions=SCALES),
    discriminator_width=2,
    relation_hidden=5,
    batch_size=4,
)

CPU = torch.device("cpu")


def encode(images):
    """Stands in for the image encoder: six numbers of unit length that depend on every pixel."""
    weight = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return F.normalize(F.conv2d(images, weight).flatten(1), dim=1)


def make(**options):
    config = replace(CONFIG, **options)
    state = rdg.make_state(config, image_embedding=6, encode=encode, speech=None, seed=0, device=torch.device("cpu"))
    return state, config


def batch(**changes):
    rng = torch.Generator().manual_seed(1)
    real, mismatched, similar = torch.rand(3, 4, 3, 16, 16, generator=rng) * 2 - 1
    given = {
        "real": pyramid(real, SCALES),
        "mismatched": pyramid(mismatched, SCALES),
        "embedding": F.normalize(torch.randn(4, 6, generator=rng), dim=1),
        "z": torch.randn(4, 4, generator=rng),
        "eps": torch.randn(4, 3, generator=rng),
        "relation_features": {"real": encode(real), "similar": encode(similar), "negative": encode(mismatched)},
    }
    return rdg.RDGBatch(**(given | changes))


def passes(state, resolution):
    """Collects what the conditional head of one discriminator is given for each group of images."""
    conditions = []
    state.discriminators[resolution].joint.register_forward_hook(lambda *args: conditions.extend(args[1][0].split(4)))
    return conditions


def snapshot(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module, before):
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


@pytest.mark.parametrize("condition_on", ["mu", "c"])
def test_option_condition_on(condition_on):
    """method.md section 8, row 8. Only the last of four, the generator's own, reaches back into the generator."""
    state, config = make(condition_on=condition_on)
    outputs = []
    state.generator.register_forward_hook(lambda *args: outputs.append(args[-1]))
    conditions = passes(state, 16)
    rdg.step(state, batch(), config)
    assert len(outputs) == 1  # one forward pass serves every update
    assert not torch.equal(outputs[0].mu, outputs[0].c)
    assert all(torch.equal(condition, getattr(outputs[0], condition_on)) for condition in conditions)
    assert [condition.requires_grad for condition in conditions] == [False, False, False, True]


def test_option_mismatched():
    """method.md section 8, row 7."""
    state, config = make(mismatched=False)
    conditions = passes(state, 16)
    losses = rdg.step(state, batch(mismatched={}), config)
    assert len(conditions) == 3  # real, fake, and the generator's
    assert not any("mismatched" in key for key in losses)
    terms = [losses[f"discriminator_16/{name}"] for name in ("real_cond", "fake_cond", "real_uncond", "fake_uncond")]
    torch.testing.assert_close(losses["discriminator_16/total"], sum(terms))


@pytest.mark.parametrize("n_logits", [3, 4])
def test_option_relation_logits(n_logits):
    """method.md section 8, row 9."""
    state, config = make(relation_logits=n_logits)
    assert state.relation.out.out_features == n_logits
    rdg.step(state, batch(), config)


def test_option_relation_off():
    state, config = make(relation=0.0)
    assert state.relation is None
    losses = rdg.step(replace(state, encode=None), batch(relation_features={}), config)
    assert not any("relation" in key for key in losses)


def test_a_set_without_classes_has_no_identical_relation():
    state, config = make()
    losses = rdg.step(state, batch(identical=False), config)
    names = {key.removeprefix("relation/") for key in losses if key.startswith("relation/")}
    assert names == {"positive", "fake", "negative", "total", "gradient_norm"}
    terms = (losses[f"relation/{name}"] for name in ("positive", "fake", "negative"))
    torch.testing.assert_close(losses["relation/total"], sum(terms))


@pytest.mark.parametrize(("weight", "term"), [("kl", "kl"), ("relation", "relation")])
def test_weights_of_the_generators_terms(weight, term):
    totals = {}
    for value in (1.0, 3.0):
        state, config = make(**{weight: value})
        losses = rdg.step(state, batch(), config)
        totals[value] = losses["generator/total"]
    torch.testing.assert_close(totals[3.0] - totals[1.0], 2 * losses[f"generator/{term}"])


def seen_by(state, resolution):
    """Collects the pictures that one discriminator is given, all groups of a pass at once."""
    images = []
    state.discriminators[resolution].trunk.register_forward_hook(lambda *args: images.append(args[1][0].detach()))
    return images


def test_discriminators_see_shifted_images_and_the_supervisor_does_not():
    state, config = make()
    given = batch(shifts=torch.full((4, 3, 2), 0.25))
    given.shifts[:, 2] = -0.25  # of the fakes
    fakes = rdg.draw(copy.deepcopy(state), given, config)
    plain, shifted = (rdg.step(copy.deepcopy(state), x, config) for x in (batch(), given))
    assert torch.equal(plain["relation/fake"], shifted["relation/fake"])
    images = seen_by(state, 16)
    rdg.step(state, given, config)
    real, mismatched, fake = images[0].split(4)
    for shown, whole in ((real, given.real[16]), (mismatched, given.mismatched[16])):
        torch.testing.assert_close(shown[..., 4:, 4:], whole[..., :12, :12])
        assert not shown[..., :4, :].any()
    for shown in (fake, images[1]):  # of the discriminators' step, and of the generator's
        torch.testing.assert_close(shown[..., :12, :12], fakes.images[16].detach()[..., 4:, 4:])


def test_the_noise_penalty_is_a_term_of_every_discriminator():
    """Of real images, with the weight of the steps that go without."""
    noise = {side: torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(2)) for side in SCALES}
    state, config = make()
    state.noise_penalty = NoisePenalty(weight=0.5, deviation=0.2, every=3)
    images = seen_by(state, 16)
    losses = rdg.step(state, batch(noise=noise), config)
    real, _, _, noisy = images[0].split(4)
    torch.testing.assert_close(noisy, real + 0.2 * noise[16])
    for side in SCALES:
        terms = {k.removeprefix(f"discriminator_{side}/"): v for k, v in losses.items() if f"or_{side}/" in k}
        expected = sum(v for k, v in terms.items() if k.endswith("cond")) + 1.5 * terms["noise_penalty"]
        torch.testing.assert_close(terms["total"], expected)
    assert not any("noise_penalty" in key for key in rdg.step(state, batch(), config))


def test_every_network_is_updated_once():
    state, config = make()
    networks = {"generator": state.generator, "relation": state.relation, **state.discriminators}
    before = {name: snapshot(network) for name, network in networks.items()}
    optimisers = {
        "generator": state.generator_optimiser,
        "relation": state.relation_optimiser,
        **state.discriminator_optimisers,
    }
    order = []
    for name, optimiser in optimisers.items():
        optimiser.register_step_post_hook(lambda *_, name=name: order.append(name))
    rdg.step(state, batch(), config)
    assert order == [8, 16, "relation", "generator"]
    assert all(changed(network, before[name]) for name, network in networks.items())
    assert all(parameter.requires_grad for network in networks.values() for parameter in network.parameters())


def test_the_average_trails_the_live_weights():
    """At a decay that moves it visibly: with the paper's 0.999 a single step is at rounding level."""
    state, config = make(ema_decay=0.75)
    before = {name: parameter.detach().clone() for name, parameter in state.generator.named_parameters()}
    rdg.step(state, batch(), config)
    live = dict(state.generator.named_parameters())
    for name, average in state.ema.parameters.items():
        torch.testing.assert_close(average, 0.75 * before[name] + 0.25 * live[name], atol=1e-6, rtol=0)
        assert not torch.equal(live[name], before[name])
        assert not torch.equal(average, before[name])
    assert make()[0].ema.decay == 0.999


def test_pyramid_is_the_mean_of_2x2_pixels():
    images = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    scales = pyramid(images, (2, 4))
    assert list(scales) == [2, 4]
    assert torch.equal(scales[4], images)
    assert scales[2][0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]


def test_a_generator_gradient_that_is_not_finite_leaves_everything_trainable():
    """The step that follows a roll-back must find discriminators and supervisor as any step does."""
    state, config = make()
    saved = copy.deepcopy(state.state_dict())

    def broken(*args, **kwargs):
        raise FloatingPointError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rdg, "generator_loss", broken)
        with pytest.raises(FloatingPointError):
            rdg.step(state, batch(), config)
    state.load_state_dict(copy.deepcopy(saved))
    again = rdg.step(state, batch(), config)
    expected = rdg.step(make()[0], batch(), config)
    torch.testing.assert_close(again, expected)

    poisoned = batch(embedding=torch.full((4, 6), torch.nan))
    assert not torch.isfinite(rdg.step(state, poisoned, config)["generator/gradient_norm"])
    state.load_state_dict(saved)
    torch.testing.assert_close(rdg.step(state, batch(), config), expected)


def test_accumulate_divides_the_batch():
    with pytest.raises(UserError, match="accumulate 3 does not divide the batch size 4"):
        replace(CONFIG, accumulate=3)
