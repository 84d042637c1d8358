"""Losses of stage 1 against `sen_loss.safetensors`."""

import pytest
import torch
from golden_support import check, loaded, read, section
from torch import nn

from s2igan.losses import distinctive_loss, matching_loss, matching_scores

TOLERANCE = 1e-5
LOSS = read("sen_loss")


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
