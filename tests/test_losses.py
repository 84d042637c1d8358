"""Closed forms and conventions; agreement with the authors' implementation is in tests/golden."""

import math

import pytest
import torch
from torch.autograd import grad

from s2igan.losses import (
    KL_WEIGHT,
    MATCHING_SCALE,
    discriminator_loss,
    distillation_loss,
    distinctive_loss,
    generator_loss,
    kl_loss,
    matching_loss,
    matching_scores,
    relation_loss,
    relation_term,
)
from s2igan.models.relation import Relation

LN2 = math.log(2)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_()


class TestMatching:
    def test_scores_are_scaled_cosines_with_images_in_rows(self):
        image = torch.tensor([[2.0, 0.0], [0.0, 0.5]])
        speech = torch.tensor([[3.0, 0.0], [1.0, 1.0]])
        expected = MATCHING_SCALE * torch.tensor([[1.0, 0.5**0.5], [0.0, 0.5**0.5]])
        torch.testing.assert_close(matching_scores(image, speech), expected)
        torch.testing.assert_close(matching_scores(image, speech, scale=4.0), 0.4 * expected)
        assert MATCHING_SCALE == 10

    def test_by_hand(self):
        """Image 0 = speech 0, image 1 at right angles to both."""
        image, speech = torch.eye(3)[:2], torch.eye(3)[[0, 2]]
        terms = matching_loss(image, speech)
        row0 = math.log(math.exp(10) + 1) - 10
        torch.testing.assert_close(terms["rows"], torch.tensor((row0 + LN2) / 2))
        torch.testing.assert_close(terms["cols"], torch.tensor((row0 + LN2) / 2))

    def test_rows_are_images_and_columns_speech(self):
        """Two images alike: from an image both utterances can be told, from an utterance the images cannot."""
        image = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        speech = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        terms = matching_loss(image, speech)
        torch.testing.assert_close(terms["cols"], torch.tensor(LN2))
        torch.testing.assert_close(
            terms["rows"], torch.tensor(((math.log(1 + math.exp(10)) - 10) + math.log(1 + math.exp(10))) / 2)
        )
        swapped = matching_loss(speech, image)
        torch.testing.assert_close(swapped["rows"], terms["cols"])

    def test_other_pairs_of_the_class_do_not_count(self):
        image, speech, classes = random(4, 6), random(4, 6, seed=1), torch.tensor([0, 1, 0, 2])
        scores = matching_scores(image, speech, classes)
        hidden = torch.zeros(4, 4, dtype=torch.bool)
        hidden[0, 2] = hidden[2, 0] = True
        assert torch.equal(scores == -torch.inf, hidden)
        terms = matching_loss(image, speech, classes)
        unmasked = matching_loss(image, speech)
        assert terms["rows"] < unmasked["rows"]
        assert terms["cols"] < unmasked["cols"]
        assert (grad(scores[0].logsumexp(0), speech)[0][2] == 0).all()

    def test_both_sides_learn(self):
        image, speech = random(4, 6), random(4, 6, seed=1)
        for term in matching_loss(image, speech).values():
            for gradient in grad(term, (image, speech), retain_graph=True):
                assert gradient.abs().amax(dim=1).min() > 0

    def test_a_step_downhill_matches_better(self):
        image, speech = random(4, 6), random(4, 6, seed=1)
        before = matching_scores(image, speech).diagonal().sum()
        gradient = grad(sum(matching_loss(image, speech).values()), image)[0]
        assert matching_scores(image - 0.1 * gradient, speech).diagonal().sum() > before

    def test_an_embedding_of_zeros(self):
        assert matching_scores(torch.zeros(2, 3), torch.ones(2, 3)).abs().max() == 0


def test_distinctive_loss():
    image = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    speech = torch.tensor([[0.0, math.log(7)], [0.0, 0.0]])
    terms = distinctive_loss(image, speech, torch.tensor([0, 1]))
    torch.testing.assert_close(terms["image"], torch.tensor((LN2 + math.log(4)) / 2))
    torch.testing.assert_close(terms["speech"], torch.tensor((math.log(8) + LN2) / 2))


def test_distillation_loss():
    student, teacher = random(3, 4), random(3, 4, seed=1)
    loss = distillation_loss(student, teacher)["distillation"]
    torch.testing.assert_close(loss, ((student - teacher) ** 2).sum() / 3)
    loss.backward()
    assert teacher.grad is None
    torch.testing.assert_close(student.grad, 2 * (student - teacher).detach() / 3)


D_TARGETS = {
    "real_cond": 1,
    "fake_cond": 0,
    "mismatched_cond": 0,
    "real_uncond": 1,
    "fake_uncond": 0,
    "mismatched_uncond": 1,  # a real image all the same
}


class TestDiscriminatorLoss:
    def test_each_logit_goes_to_its_target(self):
        logits = {name: random(5, seed=i) for i, name in enumerate(D_TARGETS)}
        pairs = {kind: (logits[f"{kind}_cond"], logits[f"{kind}_uncond"]) for kind in ("real", "fake", "mismatched")}
        terms = discriminator_loss(**pairs)
        assert set(terms) == set(D_TARGETS)
        for name, target in D_TARGETS.items():
            p = logits[name].sigmoid()
            torch.testing.assert_close(terms[name], -(p if target else 1 - p).log().mean())
            gradients = grad(terms[name], list(logits.values()), retain_graph=True, allow_unused=True)
            for other, gradient in zip(logits, gradients, strict=True):
                if other != name:
                    assert gradient is None, f"{name} depends on {other}"
                else:
                    torch.testing.assert_close(gradient, (p - target) / 5)

    def test_option_mismatched(self):
        """method.md section 8, row 7: without it the paper's four terms."""
        real, fake = (random(3), random(3, seed=1)), (random(3, seed=2), random(3, seed=3))
        four, six = discriminator_loss(real, fake), discriminator_loss(real, fake, (random(3), random(3)))
        assert set(four) == {"real_cond", "fake_cond", "real_uncond", "fake_uncond"}
        assert set(six) - set(four) == {"mismatched_cond", "mismatched_uncond"}
        assert all(torch.equal(four[name], six[name]) for name in four)


class TestGeneratorLoss:
    def test_fakes_shall_pass_as_real(self):
        logits = {64: (random(5), random(5, seed=1)), 128: (random(5, seed=2), random(5, seed=3))}
        terms = generator_loss(logits)
        assert set(terms) == {"cond_64", "uncond_64", "cond_128", "uncond_128"}
        for resolution, pair in logits.items():
            for name, logit in zip(("cond", "uncond"), pair, strict=True):
                torch.testing.assert_close(terms[f"{name}_{resolution}"], -logit.sigmoid().log().mean())

    def test_relation_and_kl_where_given(self):
        relation, mu, logvar = random(5, 3), random(5, 4, seed=1), random(5, 4, seed=2)
        terms = generator_loss({}, relation, (mu, logvar))
        assert set(terms) == {"relation", "kl"}
        torch.testing.assert_close(terms["relation"], -relation.log_softmax(1)[:, 1].mean())
        torch.testing.assert_close(terms["kl"], kl_loss(mu, logvar))


class TestRelationLoss:
    def logits(self, n_logits=3):
        names = ("positive", "fake", "negative", "identical")
        return {name: random(4, n_logits, seed=i) for i, name in enumerate(names)}

    @pytest.mark.parametrize("n_logits", [3, 4])
    def test_targets(self, n_logits):
        logits = self.logits(n_logits)
        targets = {"positive": 1, "fake": 1, "negative": 2, "identical": 0}
        terms = relation_loss(**logits)
        assert set(terms) == set(targets)
        for name, target in targets.items():
            torch.testing.assert_close(terms[name], -logits[name].log_softmax(1)[:, target].mean())

    def test_sets_without_classes(self):
        logits = self.logits()
        logits.pop("identical")
        assert set(relation_loss(**logits)) == {"positive", "fake", "negative"}

    def test_the_generator_pulls_the_same_way(self):
        """Update and generator share the term of the fakes."""
        logits = self.logits()
        assert torch.equal(relation_loss(**logits)["fake"], generator_loss({}, logits["fake"])["relation"])
        assert torch.equal(relation_loss(**logits)["fake"], relation_term(logits["fake"], Relation.POSITIVE))


class TestKL:
    def test_by_hand(self):
        assert kl_loss(torch.zeros(2, 3), torch.zeros(2, 3)) == 0
        torch.testing.assert_close(kl_loss(torch.full((2, 3), 2.0), torch.zeros(2, 3)), torch.tensor(2.0))
        logvar = torch.full((2, 3), math.log(4))
        torch.testing.assert_close(kl_loss(torch.zeros(2, 3), logvar), torch.tensor((3 - math.log(4)) / 2))

    def test_is_torchs_divergence(self):
        mu, logvar = random(4, 5), random(4, 5, seed=1)
        normal = torch.distributions.Normal
        divergence = torch.distributions.kl_divergence(normal(mu, (logvar / 2).exp()), normal(0.0, 1.0))
        torch.testing.assert_close(kl_loss(mu, logvar), divergence.mean())

    def test_weight_of_the_reference(self):
        assert KL_WEIGHT == 2


def test_losses_of_half_precision_are_float32():
    half = random(4, 6).bfloat16(), random(4, 6, seed=1).bfloat16()
    for name, term in (
        *matching_loss(*half).items(),
        *distinctive_loss(*half, torch.arange(4)).items(),
        *discriminator_loss((half[0][0], half[0][1]), (half[1][0], half[1][1])).items(),
        *generator_loss({}, half[0], half).items(),
    ):
        assert term.dtype == torch.float32, name
    wide = matching_loss(random(4, 6).double(), random(4, 6).double())
    assert wide["rows"].dtype == torch.float64
