"""What the small recipes add to stage 2 does what its name says; the step itself is proven in tests/golden."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from s2igan.errors import UserError
from s2igan.models.generator import Generator, GeneratorConfig
from s2igan.models.posterior import PosteriorOutput
from s2igan.training import rdg
from s2igan.training.beyond import SmallRecipes, small_recipes
from s2igan.training.beyond.small_recipes import SmallExtra
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


def encode(images):
    """Stands in for the image encoder: six numbers of unit length that depend on every pixel."""
    weight = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return F.normalize(F.conv2d(images, weight).flatten(1), dim=1)


def make(options=None, **small):
    """The state and the settings of stage 2 with what the small recipes add."""
    config = replace(CONFIG, **(options or {}))
    extra = SmallExtra(SmallRecipes(contrast_dim=7, **small), config)
    state = rdg.make_state(
        config, image_embedding=6, encode=encode, speech=None, seed=0, device=torch.device("cpu"), extra=extra
    )
    extra.at(0)
    return state, config


def batch(shift=None, negatives=None, **changes):
    rng = torch.Generator().manual_seed(1)
    real, mismatched, similar = torch.rand(3, 4, 3, 16, 16, generator=rng) * 2 - 1
    given = {
        "real": pyramid(real, SCALES),
        "mismatched": pyramid(mismatched, SCALES),
        "embedding": F.normalize(torch.randn(4, 6, generator=rng), dim=1),
        "z": torch.randn(4, 4, generator=rng),
        "eps": torch.randn(4, 3, generator=rng),
        "class_ids": torch.tensor([0, 1, 2, 0]),
        "relation_features": {"real": encode(real), "similar": encode(similar), "negative": encode(mismatched)},
        "extra": {"shift": torch.tensor(shift)} if shift is not None else {},
        "shared": {"negatives": negatives[0], "negative_classes": negatives[1]} if negatives is not None else {},
    }
    return rdg.RDGBatch(**(given | changes))


def snapshot(module):
    return [parameter.detach().clone() for parameter in module.parameters()]


def changed(module, before):
    return any(not torch.equal(a, b) for a, b in zip(module.parameters(), before, strict=True))


def conditions_of(state, resolution):
    """Collects what the conditional head of one discriminator is given for each group of images."""
    conditions = []
    state.discriminators[resolution].joint.register_forward_hook(lambda *args: conditions.extend(args[1][0].split(4)))
    return conditions


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
        assert len(terms) == len(parts) - 4  # all but the contrast, the total, the share told apart and the norm
        expected = sum(terms) + 0.25 * losses["discriminator_8/contrast"]
        torch.testing.assert_close(losses["discriminator_8/total"], expected)

    def test_contrast_trains_the_discriminators(self):
        state, config = make(contrast=1.0)
        before = snapshot(state.extra.head(16).speech)
        rdg.step(state, batch(), config)
        assert changed(state.extra.head(16).speech, before)

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
            negatives = None if classes is None else (speech, torch.tensor(classes))
            given = batch(class_ids=torch.zeros(4, dtype=torch.long), negatives=negatives)
            losses[name] = rdg.step(state, given, config)[term]
        assert losses["others"] > losses["none"] + 1e-3
        torch.testing.assert_close(losses["own"], losses["none"])


class TestExtrapolated:
    """Not in the paper: the last rows of a batch are drawn for descriptions that nobody gave."""

    def test_extrapolated_embeddings_are_of_no_class_that_is_there(self):
        classes = small_recipes.classes_of_fakes(torch.tensor([0, 5, 2, 2, 1]), 2).tolist()
        assert classes[:2] == [0, 5]
        assert max(classes[2:]) < 0  # classes are numbered from 0
        assert len(set(classes)) == 5

    def given(self, **changes):
        return batch(shift=[0.1, 0.2, 0.4, 0.7], **changes)

    def test_the_last_rows_get_a_difference_and_keep_their_length(self):
        embedding = self.given().embedding * torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        found = small_recipes.extrapolate(embedding, self.given().extra["shift"], 2)
        torch.testing.assert_close(found[:2], embedding[:2])
        third = embedding[2] + 0.4 * (embedding[3] - embedding[0])
        last = embedding[3] + 0.7 * (embedding[0] - embedding[1])
        torch.testing.assert_close(found[2], 3 * third / third.norm())
        torch.testing.assert_close(found[3], 4 * last / last.norm())

    def test_real_images_stay_with_their_own_descriptions(self):
        state, config = make(extrapolated=0.5, contrast=1.0)
        described = []
        state.extra.head(16).register_forward_hook(lambda *args: described.append(args[1][1]))
        conditions = conditions_of(state, 16)
        rdg.step(state, self.given(), config)
        real, mismatched, fake, generated = conditions
        with torch.no_grad():
            mu = make()[0].generator.conditioning(batch().embedding).mu
        torch.testing.assert_close(real, mu)
        torch.testing.assert_close(mismatched, mu)
        torch.testing.assert_close(fake[:2], mu[:2])
        assert not torch.isclose(fake[2:], mu[2:]).all(dim=1).any()
        assert torch.equal(fake, generated.detach())
        assert torch.equal(described[0], batch().embedding)
        extrapolated = small_recipes.extrapolate(batch().embedding, self.given().extra["shift"], 2)
        assert torch.equal(described[1], extrapolated)

    def test_the_relation_supervisor_leaves_extrapolated_rows_out(self):
        state, config = make(extrapolated=0.5)
        rows = []
        state.relation.register_forward_hook(lambda *args: rows.append([len(part) for part in args[1]]))
        rdg.step(state, self.given(), config)
        assert rows == [[4, 4], [4, 4], [2, 2], [4, 4], [2, 2]]

    def test_an_extrapolated_embedding_is_of_no_class(self):
        """In a batch of one class nothing is told apart but the fakes of extrapolated embeddings."""
        one_class = self.given(class_ids=torch.zeros(4, dtype=torch.long))
        shared = {
            "negatives": one_class.embedding.roll(1, dims=0),
            "negative_classes": torch.zeros(4, dtype=torch.long),
        }
        terms = ("generator/contrast", "generator/semantic")
        for given in (one_class, replace(one_class, shared=shared)):
            state, config = make(contrast=1.0, semantic=1.0)
            log = rdg.step(state, given, config)
            assert [log[term].item() for term in terms] == [0, 0]
            state, config = make(contrast=1.0, semantic=1.0, extrapolated=0.5)
            log = rdg.step(state, given, config)
            assert all(log[term] > 0.5 for term in terms)
            assert log["discriminator_16/contrast"] == 0

    def test_what_is_extrapolated_is_not_reconstructed(self):
        with pytest.raises(UserError, match=r"reconstruction_share 0.5 and extrapolated 0.75"):
            make(**RECONSTRUCTION, extrapolated=0.75)
        make(**RECONSTRUCTION, extrapolated=0.75, reconstruction_share=0.25)

    def test_two_rows_are_never_extrapolated(self):
        losses = {}
        for share in (0.0, 1.0):
            state, config = make({"accumulate": 2}, extrapolated=share, semantic=1.0)
            losses[share] = rdg.step(state, self.given(), config)
        torch.testing.assert_close(losses[0.0], losses[1.0], rtol=0, atol=0)

    def test_parts_of_a_batch_keep_their_shifts(self):
        assert [part.extra["shift"].tolist() for part in self.given().parts(2)] == [
            pytest.approx([0.1, 0.2]),
            pytest.approx([0.4, 0.7]),
        ]


RECONSTRUCTION = {"reconstruction": 8.0, "posterior_kl": 0.25}


class TestReconstruction:
    """Not in the paper: half of the batch is drawn with the z that its real image suggests, half with another's."""

    def test_z_is_that_of_the_own_image_in_the_first_half_and_of_another_in_the_second(self):
        state, _ = make(**RECONSTRUCTION)
        given = batch()
        z, posterior = state.extra.draw_z(given, 0.5)
        mu, logvar = state.extra.helpers["posterior"](given.real[16][:2])
        torch.testing.assert_close(posterior.mu, mu)
        torch.testing.assert_close(z[:2], mu + (logvar / 2).exp() * given.z[:2])
        torch.testing.assert_close(z[2:], mu + (logvar / 2).exp() * given.z[2:])

    def test_only_the_own_image_s_z_teaches_the_posterior(self):
        state, _ = make(**RECONSTRUCTION)
        z, _ = state.extra.draw_z(batch(), 0.5)
        parameters = list(state.extra.helpers["posterior"].parameters())
        own, other = (torch.autograd.grad(part.sum(), parameters, retain_graph=True) for part in (z[:2], z[2:]))
        assert all(gradient.any() for gradient in own)
        assert not any(gradient.any() for gradient in other)

    def test_in_use_z_is_of_the_mixture_of_training_images(self):
        state, config = make(**RECONSTRUCTION)
        images, embeddings, z = batch().real[16], batch().embedding, batch().z
        generator = in_use(state, config, embeddings, images)
        assert generator.config.noise_components == 4
        mu, logvar = state.extra.helpers["posterior"](images)
        torch.testing.assert_close(generator.mixture.mu, mu)
        torch.testing.assert_close(generator.mixture.logvar, logvar)
        assert state.generator.mixture is None
        plain = state.generator.eval()
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
        same = small_recipes.reconstruction(given.real, given, posterior)
        assert same["reconstruction"] == 0
        assert same["posterior_kl"] == 0
        swapped = {side: images.flip(0) for side, images in given.real.items()}
        expected = sum((given.real[side][:2] - swapped[side][:2]).abs().mean() for side in SCALES) / len(SCALES)
        torch.testing.assert_close(small_recipes.reconstruction(swapped, given, posterior)["reconstruction"], expected)
        unseen = {side: torch.cat((images[:2], images[2:] + 1)) for side, images in given.real.items()}
        assert small_recipes.reconstruction(unseen, given, posterior)["reconstruction"] == 0

    def test_the_generator_s_optimiser_trains_the_posterior(self):
        state, config = make(**RECONSTRUCTION)
        before = snapshot(state.extra.helpers["posterior"])
        rdg.step(state, batch(), config)
        assert changed(state.extra.helpers["posterior"], before)

    @pytest.mark.parametrize("accumulate", [1, 2])
    def test_the_warm_up_trains_the_generator_alone(self, accumulate):
        state, config = make({"accumulate": accumulate}, **RECONSTRUCTION)
        others = {**state.discriminators, "relation": state.relation}
        before = {name: snapshot(network) for name, network in others.items()}
        generator, posterior = snapshot(state.generator), snapshot(state.extra.helpers["posterior"])
        losses = state.extra.warmup_step(state, batch(), config)
        assert not any(changed(network, before[name]) for name, network in others.items())
        assert changed(state.generator, generator)
        assert changed(state.extra.helpers["posterior"], posterior)
        terms = {name: losses[f"generator/{name}"] for name in ("reconstruction", "posterior_kl", "kl")}
        expected = 8 * terms["reconstruction"] + 0.25 * terms["posterior_kl"] + config.kl * terms["kl"]
        torch.testing.assert_close(losses["generator/total"], expected)

    def test_the_warm_up_reconstructs_the_whole_batch(self):
        """Images in the second half matter too."""
        losses = []
        for change in (0.0, 0.5):
            state, config = make(**RECONSTRUCTION)
            given = batch()
            for images in given.real.values():
                images[2:] *= 1 - change
            losses.append(state.extra.warmup_step(state, given, config)["generator/reconstruction"])
        assert losses[0] != losses[1]


def in_use(state, config, embeddings, images):
    """The live generator as it is exported."""
    generator = Generator(state.extra.generator_in_use(config.generator, len(images)))
    generator.load_state_dict(state.generator.state_dict(), strict=False)
    state.extra.finish(generator, embeddings, images)
    return generator.eval()


def test_in_use_the_condition_is_scaled():
    embeddings, z, eps = batch().embedding, batch().z, batch().eps
    state, config = make(condition_scale=1.5, semantic=1.0)
    assert state.generator.condition_scale is None
    scaled = in_use(state, config, embeddings, batch().real[16])
    plain = state.generator.eval()
    with torch.no_grad():
        c, mu, _ = plain.conditioning(embeddings, eps)
        expected = plain.to_rgb[-1](plain.hidden(c + 0.5 * (mu - mu.mean(dim=0)), z)[-1])
        torch.testing.assert_close(scaled(embeddings, z, eps).images[-1], expected)
        assert not torch.allclose(plain(embeddings, z, eps).images[-1], expected)


@pytest.mark.parametrize(
    ("settings", "options", "words"),
    [
        ({"reconstruction": 1.0, "reconstruction_share": 0.1}, {}, "reconstruction_share 0.1 is no image of 4"),
        (
            {"reconstruction": 1.0, "reconstruction_share": 0.2},
            {"accumulate": 2},
            "reconstruction_share 0.2 is no image of 2",
        ),
        ({"warmup_steps": 5}, {}, "warmup_steps 5 reconstruct nothing"),
        ({"late_steps": 2, "late_contrast": 4.0}, {}, "contrast 0 and late_contrast 4 turn a term on or off"),
        ({"late_steps": 2, "semantic": 4.0}, {}, "semantic 4 and late_semantic 0 turn a term on or off"),
        ({"negatives": 5, "semantic": 1.0}, {"speech": "scratch"}, "negatives 5 needs a speech encoder that stays"),
    ],
)
def test_settings_that_would_crash_or_do_nothing_are_refused(settings, options, words):
    with pytest.raises(UserError, match=words):
        make(options, **settings)


def test_the_small_recipes_are_off_by_default():
    assert not SmallRecipes().on
    SmallRecipes().check(CONFIG)
