"""Relation supervisor and its losses against `relation.safetensors`."""

import pytest
import torch
from golden_support import check, check_all, gradients, loaded, read, section
from reference_weights import from_reference

from s2igan.losses import generator_loss, relation_loss
from s2igan.models.relation import Relation, RelationSupervisor

TOLERANCE = 1e-5
DATA = read("relation")
FEAT = section(DATA, "feat/")
NAMES = {"same": "identical", "similar": "positive", "fake": "fake", "wrong": "negative"}


def other(name):
    return FEAT["real" if name == "same" else name]


def supervisor(mode):
    return loaded(RelationSupervisor(32, 16, n_logits=4), "relation", section(DATA, "sd/"), train=mode == "train")


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", NAMES)
def test_logits(mode, name):
    check(supervisor(mode)(FEAT["real"], other(name)), DATA[f"logits/{mode}/{name}"], TOLERANCE)


@pytest.mark.parametrize("update", ["update4", "update3"])
def test_update(update):
    model = supervisor("train")
    logits = {NAMES[name]: model(FEAT["real"], other(name)) for name in NAMES}
    identical = logits.pop("identical")
    terms = relation_loss(**logits, identical=identical if update == "update4" else None)
    loss = sum(terms.values())
    check(loss, DATA[f"{update}/loss"], TOLERANCE)
    loss.backward()
    check_all(gradients(model), from_reference("relation", section(DATA, f"{update}/grad/")), TOLERANCE)
    if update == "update4":
        for name, ours in NAMES.items():
            check(terms[ours], DATA[f"update4/ce_{name}"], TOLERANCE, name)
        check_all(model.state_dict(), from_reference("relation", section(DATA, "update4/sd_after/")), TOLERANCE)


def test_targets():
    targets = {"same": "IDENTICAL", "similar": "POSITIVE", "fake": "POSITIVE", "wrong": "NEGATIVE"}
    for name, relation in targets.items():
        assert (DATA[f"update4/target_{name}"] == Relation[relation]).all()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_generators_share(mode):
    fake = FEAT["fake"].clone().requires_grad_()
    loss = generator_loss({}, supervisor(mode)(FEAT["real"], fake))["relation"]
    check(loss, DATA[f"generator/{mode}/loss"], TOLERANCE)
    loss.backward()
    check(fake.grad, DATA[f"generator/{mode}/grad_fake"], TOLERANCE)


def test_published_size():
    state = {
        key: value.float() if value.dtype == torch.float16 else value
        for key, value in section(DATA, "full/sd/").items()
    }
    model = loaded(RelationSupervisor(n_logits=4), "relation", state, train=False)
    check(model(DATA["full/first"], DATA["full/second"]), DATA["full/logits/eval"], TOLERANCE)
