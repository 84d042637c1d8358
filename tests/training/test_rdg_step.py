"""The options of stage 2's step at toy width; the step itself is proven in tests/golden/test_golden_step.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from s2igan.errors import UserError
from s2igan.losses import Negatives
from s2igan.models.generator import GeneratorConfig
from s2igan.models.posterior import PosteriorOutput
from s2igan.training import rdg, rdg_config, rdg_options, rdg_state
from s2igan.training.trainer import LoopConfig

SCALES = (8, 16)
CONFIG = rdg_config.RDGConfig(
    loop=LoopConfig(steps=1),
    generator=GeneratorConfig(embedding=6, condition=3, z=4, width=4, resolutions=SCALES),
    discriminator_width=2,
    relation_hidden=5,
    batch_size=4,
    contrast_dim=7,
)

CPU = torch.device("cpu")


def encode(images):
    """Stands in for the image encoder: six numbers of unit length that depend on every pixel."""
    weight = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return F.normalize(F.conv2d(images, weight).flatten(1), dim=1)


def make(**options):
    config = replace(CONFIG, **options)
    state = rdg_state.make_state(
        config, image_embedding=6, encode=encode, speech=None, seed=0, device=torch.device("cpu")
    )
    return state, config


def batch(**changes):
    rng = torch.Generator().manual_seed(1)
    real, mismatched, similar = torch.rand(3, 4, 3, 16, 16, generator=rng) * 2 - 1
    given = {
        "real": rdg_state.pyramid(real, SCALES),
        "mismatched": rdg_state.pyramid(mismatched, SCALES),
        "embedding": F.normalize(torch.randn(4, 6, generator=rng), dim=1),
        "z": torch.randn(4, 4, generator=rng),
        "eps": torch.randn(4, 3, generator=rng),
        "class_ids": torch.tensor([0, 1, 2, 0]),
        "relation_features": {"real": encode(real), "similar": encode(similar), "negative": encode(mismatched)},
    }
    return rdg_state.RDGBatch(**(given | changes))


def passes(state, resolution):
    """Collects what the conditional head of one discriminator is given for each group of images."""
    conditions = []
    state.discriminators[resolution].joint.register_forward_hook(lambda *args: conditions.extend(args[1][0].split(4)))
    return conditions


def snapshot(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def moved(module, before):
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
    assert names == {"positive", "fake", "negative", "total"}
    torch.testing.assert_close(losses["relation/total"], sum(losses[f"relation/{name}"] for name in names - {"total"}))


@pytest.mark.parametrize(("weight", "term"), [("kl", "kl"), ("relation", "relation")])
def test_weights_of_the_generators_terms(weight, term):
    totals = {}
    for value in (1.0, 3.0):
        state, config = make(**{weight: value})
        losses = rdg.step(state, batch(), config)
        totals[value] = losses["generator/total"]
    torch.testing.assert_close(totals[3.0] - totals[1.0], 2 * losses[f"generator/{term}"])


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
    assert all(moved(network, before[name]) for name, network in networks.items())
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


class TestContrastiveOptions:
    """Not in the paper: they must teach images to fit the speech, never the speech to fit the images."""

    @pytest.mark.parametrize(
        ("option", "term"), [("contrast", "generator/contrast"), ("semantic", "generator/semantic")]
    )
    def test_weight(self, option, term):
        plain = rdg.step(make()[0], batch(), CONFIG)
        state, config = make(**{option: 0.5})
        losses = rdg.step(state, batch(), config)
        assert term in losses
        assert term not in plain
        parts = [value for key, value in losses.items() if key.startswith(("generator/cond", "generator/uncond"))]
        expected = sum(parts) + losses["generator/relation"] + config.kl * losses["generator/kl"] + 0.5 * losses[term]
        torch.testing.assert_close(losses["generator/total"], expected)

    def test_weight_for_the_discriminators(self):
        """Theirs, not the generator's."""
        state, config = make(contrast=5.0, discriminator_contrast=0.25)
        losses = rdg.step(state, batch(), config)
        parts = [key for key in losses if key.startswith("discriminator_8/")]
        names = ("real_cond", "real_uncond", "mismatched_cond", "mismatched_uncond", "fake_cond", "fake_uncond")
        terms = [losses[f"discriminator_8/{name}"] for name in names if f"discriminator_8/{name}" in losses]
        assert len(terms) == len(parts) - 3  # all but the contrast, the total and the share told apart
        expected = sum(terms) + 0.25 * losses["discriminator_8/contrast"]
        torch.testing.assert_close(losses["discriminator_8/total"], expected)

    def test_contrast_trains_the_discriminators(self):
        state, config = make(contrast=1.0)
        before = snapshot(state.discriminators[16].match_speech_out)
        rdg.step(state, batch(), config)
        assert moved(state.discriminators[16].match_speech_out, before)

    @pytest.mark.parametrize("option", ["contrast", "semantic"])
    def test_speech_does_not_move(self, option):
        """With a generator that ignores the embedding nothing else could send it a gradient."""
        state, config = make(**{option: 1.0})
        with torch.no_grad():
            state.generator.conditioning.fc.weight.zero_()
        embedding = batch().embedding.requires_grad_()
        rdg.step(state, batch(embedding=embedding), config)
        assert (embedding.grad == 0).all()

    def test_masks_other_pairs_of_the_class(self):
        """Rows 0 and 3 are of one class; told apart as if they were two, the loss is higher."""
        for option, term in (("contrast", "discriminator_16/contrast"), ("semantic", "generator/semantic")):
            state, config = make(**{option: 1.0})
            with_classes = rdg.step(state, batch(), config)[term]
            state, config = make(**{option: 1.0})
            without = rdg.step(state, batch(class_ids=None), config)[term]
            assert with_classes < without

    @pytest.mark.parametrize("term", ["discriminator_8/contrast", "generator/contrast", "generator/semantic"])
    def test_negatives_make_every_contrastive_term_harder(self, term):
        """Of other classes they do; of the batch's own, which are the masked ones, row for row, they change nothing."""
        speech = batch().embedding.roll(1, dims=0)
        losses = {}
        for name, classes in (("none", None), ("others", [8, 8, 8, 8]), ("own", [0, 0, 0, 0])):
            state, config = make(contrast=1.0, semantic=1.0)
            negatives = None if classes is None else Negatives(speech, torch.tensor(classes))
            given = batch(class_ids=torch.zeros(4, dtype=torch.long), negatives=negatives)
            losses[name] = rdg.step(state, given, config)[term]
        assert losses["others"] > losses["none"] + 1e-3
        torch.testing.assert_close(losses["own"], losses["none"])


class TestArithmetic:
    """Not in the paper: the last rows of a batch are drawn for descriptions that nobody gave."""

    def test_classes_of_moved_descriptions_are_no_others(self):
        classes = rdg_options.moved_classes(torch.tensor([0, 5, 2, 2, 1]), slice(0, 2)).tolist()
        assert classes[:2] == [0, 5]
        assert max(classes[2:]) < 0  # classes are numbered from 0
        assert len(set(classes)) == 5

    def given(self, **changes):
        return batch(shift=torch.tensor([0.1, 0.2, 0.4, 0.7]), **changes)

    def test_the_last_rows_are_moved_by_a_difference_and_keep_their_length(self):
        embedding = self.given().embedding * torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        found = rdg_options.moved(embedding, self.given(), slice(0, 2))
        torch.testing.assert_close(found[:2], embedding[:2])
        third = embedding[2] + 0.4 * (embedding[3] - embedding[0])
        last = embedding[3] + 0.7 * (embedding[0] - embedding[1])
        torch.testing.assert_close(found[2], 3 * third / third.norm())
        torch.testing.assert_close(found[3], 4 * last / last.norm())

    def test_real_images_stay_with_their_own_descriptions(self):
        state, config = make(arithmetic=0.5, contrast=1.0)
        heard = []
        state.discriminators[16].match_speech_out.register_forward_hook(lambda *args: heard.append(args[1][0]))
        conditions = passes(state, 16)
        rdg.step(state, self.given(), config)
        real, mismatched, fake, generated = conditions
        with torch.no_grad():
            mu = make()[0].generator.conditioning(batch().embedding).mu
        torch.testing.assert_close(real, mu)
        torch.testing.assert_close(mismatched, mu)
        torch.testing.assert_close(fake[:2], mu[:2])
        assert not torch.isclose(fake[2:], mu[2:]).all(dim=1).any()
        assert torch.equal(fake, generated.detach())
        assert torch.equal(heard[0], batch().embedding)
        assert torch.equal(heard[1], rdg_options.moved(batch().embedding, self.given(), slice(0, 2)))

    def test_the_relation_supervisor_leaves_moved_rows_out(self):
        state, config = make(arithmetic=0.5)
        rows = []
        state.relation.register_forward_hook(lambda *args: rows.append([len(part) for part in args[1]]))
        rdg.step(state, self.given(), config)
        assert rows == [[4, 4], [4, 4], [2, 2], [4, 4], [2, 2]]

    def test_a_moved_description_is_of_no_class(self):
        """In a batch of one class nothing is told apart, but the fakes of moved descriptions are, from all of it."""
        one_class = self.given(class_ids=torch.zeros(4, dtype=torch.long))
        negatives = Negatives(one_class.embedding.roll(1, dims=0), torch.zeros(4, dtype=torch.long))
        terms = ("generator/contrast", "generator/semantic")
        for given in (one_class, replace(one_class, negatives=negatives)):
            state, config = make(contrast=1.0, semantic=1.0)
            log = rdg.step(state, given, config)
            assert [log[term].item() for term in terms] == [0, 0]
            state, config = make(contrast=1.0, semantic=1.0, arithmetic=0.5)
            log = rdg.step(state, given, config)
            assert all(log[term] > 0.5 for term in terms)
            assert log["discriminator_16/contrast"] == 0

    def test_what_is_moved_is_not_reconstructed(self):
        with pytest.raises(UserError, match=r"reconstruction_share 0.5 and arithmetic 0.75"):
            make(**RECONSTRUCTION, arithmetic=0.75)
        make(**RECONSTRUCTION, arithmetic=0.75, reconstruction_share=0.25)

    def test_two_rows_are_never_moved(self):
        losses = {}
        for share in (0.0, 1.0):
            state, config = make(arithmetic=share, accumulate=2)
            losses[share] = rdg.step(state, self.given(), config)
        assert losses[0.0] == losses[1.0]

    def test_parts_of_a_batch_keep_their_shifts(self):
        assert [part.shift.tolist() for part in self.given().parts(2)] == [
            pytest.approx([0.1, 0.2]),
            pytest.approx([0.4, 0.7]),
        ]


RECONSTRUCTION = {"reconstruction": 8.0, "posterior_kl": 0.25}


class TestReconstruction:
    """Not in the paper: half of the batch is drawn with the z that its real image suggests, half with another's."""

    def test_z_is_that_of_the_own_image_in_the_first_half_and_of_another_in_the_second(self):
        state, config = make(**RECONSTRUCTION)
        given = batch()
        z, posterior = rdg_options.draw_z(state, given, config.reconstruction_share)
        mu, logvar = state.posterior(given.real[16][:2])
        torch.testing.assert_close(posterior.mu, mu)
        torch.testing.assert_close(z[:2], mu + (logvar / 2).exp() * given.z[:2])
        torch.testing.assert_close(z[2:], mu + (logvar / 2).exp() * given.z[2:])

    def test_only_the_own_image_s_z_teaches_the_posterior(self):
        state, config = make(**RECONSTRUCTION)
        z, _ = rdg_options.draw_z(state, batch(), config.reconstruction_share)
        parameters = list(state.posterior.parameters())
        own, other = (torch.autograd.grad(part.sum(), parameters, retain_graph=True) for part in (z[:2], z[2:]))
        assert all(gradient.any() for gradient in own)
        assert not any(gradient.any() for gradient in other)

    def test_in_use_z_is_of_the_mixture_of_training_images(self):
        state, config = make(**RECONSTRUCTION)
        images = batch().real[16]
        embeddings = batch().embedding
        generator = rdg_state.averaged_generator(state, config, embeddings, images, seed=0)
        assert generator.config.noise_components == 4
        mu, logvar = state.posterior(images)
        torch.testing.assert_close(generator.mixture.mu, mu)
        torch.testing.assert_close(generator.mixture.logvar, logvar)
        assert state.generator.mixture is None
        plain = rdg_state.averaged_generator(state, config, embeddings, seed=0)
        z = batch().z
        with torch.no_grad():
            drawn = generator(embeddings, z).images[-1]
            torch.testing.assert_close(drawn, plain(embeddings, generator.mixture(z)).images[-1])
            assert not torch.allclose(drawn, plain(embeddings, z).images[-1])

    def test_weights(self):
        plain = rdg.step(make()[0], batch(), CONFIG)
        assert not any("reconstruction" in key or "posterior" in key for key in plain)
        totals = {}
        for weight, kl in ((8.0, 0.25), (16.0, 0.25), (8.0, 1.25)):
            state, config = make(reconstruction=weight, posterior_kl=kl)
            losses = rdg.step(state, batch(), config)
            totals[weight, kl] = losses["generator/total"]
        first = totals[8.0, 0.25]
        torch.testing.assert_close(totals[16.0, 0.25] - first, 8 * losses["generator/reconstruction"])
        torch.testing.assert_close(totals[8.0, 1.25] - first, losses["generator/posterior_kl"])

    def test_distance_is_to_the_own_real_image_at_every_scale(self):
        given = batch()
        posterior = PosteriorOutput(torch.zeros(2, 4), torch.zeros(2, 4))
        same = rdg_options.reconstruction(given.real, given, posterior)
        assert same["reconstruction"] == 0
        assert same["posterior_kl"] == 0
        swapped = {side: images.flip(0) for side, images in given.real.items()}
        expected = sum((given.real[side][:2] - swapped[side][:2]).abs().mean() for side in SCALES) / len(SCALES)
        torch.testing.assert_close(rdg_options.reconstruction(swapped, given, posterior)["reconstruction"], expected)
        unseen = {side: torch.cat((images[:2], images[2:] + 1)) for side, images in given.real.items()}
        assert rdg_options.reconstruction(unseen, given, posterior)["reconstruction"] == 0

    def test_the_generator_s_optimiser_trains_the_posterior(self):
        state, config = make(**RECONSTRUCTION)
        before = snapshot(state.posterior)
        rdg.step(state, batch(), config)
        assert moved(state.posterior, before)

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_practice_leaves_the_judges_as_they_are(self, accumulate):
        state, config = make(**RECONSTRUCTION, accumulate=accumulate)
        judges = {**state.discriminators, "relation": state.relation}
        before = {name: snapshot(network) for name, network in judges.items()}
        generator, posterior = snapshot(state.generator), snapshot(state.posterior)
        losses = rdg_options.practise(state, batch(), config)
        assert not any(moved(network, before[name]) for name, network in judges.items())
        assert moved(state.generator, generator)
        assert moved(state.posterior, posterior)
        terms = {name: losses[f"generator/{name}"] for name in ("reconstruction", "posterior_kl", "kl")}
        expected = 8 * terms["reconstruction"] + 0.25 * terms["posterior_kl"] + config.kl * terms["kl"]
        torch.testing.assert_close(losses["generator/total"], expected)

    def test_practice_reconstructs_the_whole_batch(self):
        """Images in the second half matter too."""
        losses = []
        for change in (0.0, 0.5):
            state, config = make(**RECONSTRUCTION)
            given = batch()
            for images in given.real.values():
                images[2:] *= 1 - change
            losses.append(rdg_options.practise(state, given, config)["generator/reconstruction"])
        assert losses[0] != losses[1]


def test_a_scale_that_has_not_joined_is_not_computed():
    """One scale alone is the step of a generator and a discriminator that have no others."""
    given = batch()
    lowest = replace(given, real={8: given.real[8]}, mismatched={8: given.mismatched[8]})
    state, config = make(semantic=1.0)
    waiting = [state.discriminators[16], state.generator.refinements, state.generator.to_rgb[1]]
    before = [snapshot(part) for part in waiting]
    state.encode = lambda images: encode(F.interpolate(images, size=16))
    losses = rdg.step(state, lowest, config)
    assert not any(moved(part, weights) for part, weights in zip(waiting, before, strict=True))
    assert moved(state.generator.initial, snapshot(make()[0].generator.initial))
    assert not any("16" in name for name in losses)
    both, _ = make(semantic=1.0)
    everything = rdg.step(both, given, config)
    for name in losses:
        if name.startswith("discriminator_8/"):
            torch.testing.assert_close(losses[name], everything[name])


def test_the_exported_generator_scales_the_condition():
    embeddings, z, eps = batch().embedding, batch().z, batch().eps
    state, config = make(condition_scale=1.5)
    assert state.generator.condition_scale is None
    plain = rdg_state.averaged_generator(state, replace(config, condition_scale=1.0), embeddings, seed=0)
    scaled = rdg_state.averaged_generator(state, config, embeddings, seed=0)
    with torch.no_grad():
        c, mu, _ = plain.conditioning(embeddings, eps)
        moved = c + 0.5 * (mu - mu.mean(dim=0))
        expected = plain.to_rgb[-1](plain.hidden(moved, z)[-1])
        torch.testing.assert_close(scaled(embeddings, z, eps).images[-1], expected)
        assert not torch.allclose(plain(embeddings, z, eps).images[-1], expected)


def test_pyramid_is_the_mean_of_2x2_pixels():
    images = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    scales = rdg_state.pyramid(images, (2, 4))
    assert list(scales) == [4, 2]
    assert torch.equal(scales[4], images)
    assert scales[2][0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
