"""Losses of stage 2 against `losses.safetensors`."""

import math

import pytest
import torch
from golden_support import check, check_all, gradients, loaded, read, running_statistics, section, small_discriminator
from reference_weights import from_reference

from s2igan.losses import KL_WEIGHT, discriminator_loss, generator_loss, kl_loss

TOLERANCE = 1e-5
DATA = read("losses")
SCALES = (64, 128, 256)


def leaves(prefix):
    return {key: tensor.clone().requires_grad_() for key, tensor in section(DATA, prefix).items()}


def ours(name):
    return name.replace("wrong", "mismatched")


class TestDiscriminatorLoss:
    def terms(self):
        logit = leaves("d/logit/")
        pairs = {kind: (logit[f"{kind}_cond"], logit[f"{kind}_uncond"]) for kind in ("real", "fake", "wrong")}
        return logit, discriminator_loss(pairs["real"], pairs["fake"], pairs["wrong"])

    def test_six_terms(self):
        logit, terms = self.terms()
        check_all(terms, {ours(name): value for name, value in section(DATA, "d/bce/").items()}, TOLERANCE)
        loss = sum(terms.values())
        check(loss, DATA["d/loss"], TOLERANCE)
        loss.backward()
        for name, expected in section(DATA, "d/grad_logit/").items():
            check(logit[name].grad, expected, TOLERANCE, name)

    def test_conditional_terms_alone(self):
        terms = self.terms()[1]
        loss = terms["real_cond"] + 0.5 * (terms["mismatched_cond"] + terms["fake_cond"])
        check(loss, DATA["d/loss_conditional_only"], TOLERANCE)


class TestGeneratorLoss:
    def test_every_term_and_gradient(self):
        logit = leaves("g/logit/")
        rs, mu, logvar = (DATA[f"g/{name}"].clone().requires_grad_() for name in ("rs_logits", "mu", "logvar"))
        fakes = {scale: (logit[f"{scale}_cond"], logit[f"{scale}_uncond"]) for scale in SCALES}
        terms = generator_loss(fakes, rs, (mu, logvar))
        for name, expected in section(DATA, "g/bce/").items():
            scale, kind = name.split("_")
            check(terms[f"{kind}_{scale}"], expected, TOLERANCE, name)
        check(terms["relation"], DATA["g/rs_ce"], TOLERANCE)
        check(terms["kl"], DATA["g/kl"], TOLERANCE)
        check(KL_WEIGHT * terms["kl"], DATA["g/kl_times_2"], TOLERANCE)
        loss = sum(KL_WEIGHT * term if name == "kl" else term for name, term in terms.items())
        check(loss, DATA["g/loss"], TOLERANCE)
        loss.backward()
        for name, expected in section(DATA, "g/grad_logit/").items():
            check(logit[name].grad, expected, TOLERANCE, name)
        check(rs.grad, DATA["g/grad_rs_logits"], TOLERANCE)
        check(mu.grad, DATA["g/grad_mu"], TOLERANCE)
        check(logvar.grad, DATA["g/grad_logvar"], TOLERANCE)

    def test_kl_is_the_function(self):
        check(kl_loss(DATA["g/mu"], DATA["g/logvar"]), DATA["g/kl"], TOLERANCE)


@pytest.mark.parametrize("index", range(6))
def test_saturation(index):
    """Logits lose nothing; the reference's float32 probabilities reach 0 and 1, and their logarithms stop at -100."""
    logit = DATA["saturated/logit"][index : index + 1].requires_grad_()
    x, p = logit.item(), logit.detach().sigmoid().item()
    towards1 = generator_loss({64: (logit, logit)})["cond_64"]
    towards0 = discriminator_loss((logit, logit), (logit, logit))["fake_cond"]
    for term, recorded, exact, reached in (
        (towards1, DATA["saturated/bce_target1"][index], max(-x, 0), p == 0),
        (towards0, DATA["saturated/bce_target0"][index], max(x, 0), p == 1),
    ):
        exact = exact or (math.log(2) if x == 0 else 0)
        assert term.item() == pytest.approx(exact, abs=TOLERANCE)
        assert recorded.item() == pytest.approx(100 if reached else min(exact, 100), abs=TOLERANCE)
    (gradient,) = torch.autograd.grad(towards1, logit)
    assert gradient.item() == pytest.approx(p - 1)  # so a generator far behind still learns


class TestThroughTheDiscriminator:
    def parts(self):
        discriminators = read("discriminators")
        model = loaded(small_discriminator(64, 4), "discriminator", section(discriminators, "d64/sd/"), train=True)
        real = discriminators["image64"]
        return model, real, 0.5 * real + 0.5 * real.flip(3), discriminators["mu"]

    def test_update_of_the_discriminator(self):
        model, real, fake, mu = self.parts()
        real_logits, mismatched_logits, fake_logits = model(real, mu), model(real.flip(0), mu), model(fake, mu)
        loss = sum(discriminator_loss(real_logits, fake_logits, mismatched_logits).values())
        check(loss, DATA["net64/d_loss"], TOLERANCE)
        loss.backward()
        check_all(gradients(model), from_reference("discriminator", section(DATA, "net64/d_grad/")), TOLERANCE)
        after = from_reference("discriminator", section(DATA, "net64/sd_after/"))
        check_all(running_statistics(model), after, TOLERANCE)

    def test_gradient_of_the_generator(self):
        model, _, fake, mu = self.parts()
        fake, mu = fake.requires_grad_(), mu.clone().requires_grad_()
        loss = sum(generator_loss({64: model(fake, mu)}).values())
        check(loss, DATA["net64/g_loss"], TOLERANCE)
        loss.backward()
        check(fake.grad, DATA["net64/grad_fake"], TOLERANCE)
        check(mu.grad, DATA["net64/grad_mu"], TOLERANCE)
