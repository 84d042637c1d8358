"""Losses of stage 1 against `sen_loss.safetensors`, and three optimiser steps against `sen_step.safetensors`."""

import pytest
import torch
import torch.nn.functional as F
from golden_support import check, check_all, gradients, loaded, read, section, small_speech_encoder
from torch import nn

from s2igan.losses import distinctive_loss, matching_loss, matching_scores
from s2igan.models.reference_weights import from_reference

TOLERANCE = 1e-5
LOSS = read("sen_loss")
STEP = read("sen_step")


def embeddings(case):
    return LOSS[f"{case}/image"].clone().requires_grad_(), LOSS[f"{case}/speech"].clone().requires_grad_()


def classifier():
    return loaded(nn.Linear(16, 6), "classifier", section(LOSS, "classifier/"), train=True)


@pytest.mark.parametrize(("case", "masking"), [("raw", "masked"), ("unit", "masked"), ("raw", "nomask")])
def test_matching_loss(case, masking):
    recorded = section(LOSS, f"{case}/{masking}/")
    image, speech = embeddings(case)
    class_ids = LOSS["class_ids"] if masking == "masked" else None
    check(matching_scores(image, speech, class_ids), recorded["scores"], TOLERANCE)
    terms = matching_loss(image, speech, class_ids)
    check(terms["rows"], recorded["loss_rows"], TOLERANCE)
    check(terms["cols"], recorded["loss_cols"], TOLERANCE)
    (terms["rows"] + terms["cols"]).backward()
    check(image.grad, recorded["grad_image"], TOLERANCE)
    check(speech.grad, recorded["grad_speech"], TOLERANCE)


@pytest.mark.parametrize("case", ["raw", "unit"])
def test_distinctive_loss(case):
    recorded = section(LOSS, f"{case}/distinctive/")
    (image, speech), f = embeddings(case), classifier()
    terms = distinctive_loss(f(image), f(speech), LOSS["labels"])
    check(terms["image"], recorded["loss_image"], TOLERANCE)
    check(terms["speech"], recorded["loss_speech"], TOLERANCE)
    (terms["image"] + terms["speech"]).backward()
    check(image.grad, recorded["grad_image"], TOLERANCE)
    check(speech.grad, recorded["grad_speech"], TOLERANCE)
    check(f.weight.grad, recorded["grad_classifier_weight"], TOLERANCE)
    check(f.bias.grad, recorded["grad_classifier_bias"], TOLERANCE)


@pytest.mark.parametrize("case", ["raw", "unit"])
def test_total(case):
    recorded = section(LOSS, f"{case}/total/")
    (image, speech), f = embeddings(case), classifier()
    matching = matching_loss(image, speech, LOSS["class_ids"])
    distinctive = distinctive_loss(f(image), f(speech), LOSS["labels"])
    total = sum(matching.values()) + sum(distinctive.values())
    check(total, recorded["loss"], TOLERANCE)
    total.backward()
    check(image.grad, recorded["grad_image"], TOLERANCE)
    check(speech.grad, recorded["grad_speech"], TOLERANCE)


def test_a_batch_of_one_class_has_nothing_to_match():
    image, speech = embeddings("sameclass")
    terms = matching_loss(image, speech, torch.zeros(2, dtype=torch.long))
    assert terms["rows"].item() == LOSS["sameclass/loss_rows"].item() == 0
    assert terms["cols"].item() == LOSS["sameclass/loss_cols"].item() == 0


@pytest.fixture(scope="module")
def run():
    """The reference's loop: Adam over speech encoder, image head and classifier; the same batch three times."""
    before = section(STEP, "before/")
    nets = {
        "speech": loaded(small_speech_encoder(), "speech_encoder", section(before, "speech/"), train=True),
        "image": loaded(nn.Linear(24, 32), "image_head", section(before, "image/"), train=True),
        "classifier": loaded(nn.Linear(32, 6), "classifier", section(before, "classifier/"), train=True),
    }
    parameters = [parameter for net in nets.values() for parameter in net.parameters()]
    adam = torch.optim.Adam(parameters, lr=1e-3, betas=(0.95, 0.999), weight_decay=1e-3)
    mel, n = STEP["mel"], len(STEP["mel"])
    record = {"losses": []}
    for step in range(3):
        adam.zero_grad()
        A = nets["speech"](mel, torch.full((n,), mel.shape[1]))
        V = F.normalize(nets["image"](STEP["image_features"]), dim=1)
        matching = matching_loss(V, A, STEP["class_ids"])
        distinctive = distinctive_loss(nets["classifier"](V), nets["classifier"](A), STEP["labels"])
        total = sum(matching.values()) + sum(distinctive.values())
        total.backward()
        record["losses"].append(
            {
                "match_rows": matching["rows"].detach(),
                "match_cols": matching["cols"].detach(),
                "distinctive": sum(distinctive.values()).detach(),
                "total": total.detach(),
            }
        )
        if step == 0:
            record |= {"V": V.detach(), "A": A.detach()}
            record["grad"] = {name: {k: g.clone() for k, g in gradients(net).items()} for name, net in nets.items()}
        adam.step()
        if step == 0:
            record["after"] = {
                name: {key: tensor.clone() for key, tensor in net.state_dict().items()} for name, net in nets.items()
            }
    return record


NETWORKS = (("speech", "speech_encoder"), ("image", "image_head"), ("classifier", "classifier"))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_losses_of_step(run, step):
    check_all(run["losses"][step - 1], section(STEP, f"step{step}/"), TOLERANCE)


def test_embeddings_of_step(run):
    check(run["V"], STEP["V"], TOLERANCE)
    check(run["A"], STEP["A"], TOLERANCE)


@pytest.mark.parametrize(("name", "network"), NETWORKS)
def test_gradients_of_step(run, name, network):
    check_all(run["grad"][name], from_reference(network, section(STEP, f"grad/{name}/")), TOLERANCE)


@pytest.mark.parametrize(("name", "network"), NETWORKS)
def test_parameters_after_step(run, name, network):
    before = from_reference(network, section(STEP, f"before/{name}/"))
    grad = from_reference(network, section(STEP, f"grad/{name}/"))
    after = from_reference(network, section(STEP, f"after/{name}/"))
    arbitrary = 0
    for key, expected in after.items():
        actual = run["after"][name][key]
        if key in grad:  # where gradient and decay cancel, the sign of Adam's first step is rounding noise
            noise = (grad[key] + 1e-3 * before[key]).abs() <= 1e-5
            check(actual[~noise], expected[~noise], TOLERANCE, key)
            check(actual[noise], expected[noise], 2e-3, key)
            arbitrary += int(noise.sum())
            assert not torch.equal(expected, before[key])
        else:
            check(actual, expected, TOLERANCE, key)
    assert arbitrary <= 26
