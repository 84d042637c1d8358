"""Generator with and without its dense link against `generator.safetensors`."""

import pytest
import torch
from golden_support import check, check_all, gradients, loaded, read, running_statistics, section, small_generator
from reference_weights import from_reference, our_key

DATA = read("generator")
TOLERANCE = {"eval": 1e-5, "train": 1e-4}  # four samples per batch norm in train mode: small variances magnify rounding
RECORDS = ["eval", "train", "nodense/eval", "nodense/train"]
STRIDES = {"h0": 8, "h1": 16, "h2": 32, "image64": 1, "image128": 4, "image256": 8}


def generator(record):
    state, mode = section(DATA, "sd/"), record.rpartition("/")[2]
    if record.startswith("nodense/"):
        model, state = small_generator(dense="none"), state | section(DATA, "nodense/sd/")
    else:
        model = small_generator(dense="previous")
    return loaded(model, "generator", state, train=mode == "train")


def run(model):
    """All that is recorded of one forward pass, and the pass's output."""
    hidden = []
    handles = [
        stage.register_forward_hook(lambda *args: hidden.append(args[-1]))
        for stage in (model.initial, *model.refinements)
    ]
    output = model(DATA["speech"], DATA["z"], DATA["eps"])
    for handle in handles:
        handle.remove()
    names = dict(zip(("h0", "h1", "h2"), hidden, strict=True))
    return names | dict(zip(("image64", "image128", "image256"), output.images, strict=True)), output


@pytest.mark.parametrize("record", RECORDS)
def test_hidden_features_and_images(record):
    recorded, tolerance = section(DATA, f"{record}/"), TOLERANCE[record.rpartition("/")[2]]
    model = generator(record)
    with torch.no_grad():
        actual, output = run(model)
    for name, stride in STRIDES.items():
        x = actual[name]
        check(x[:, :, ::stride, ::stride], recorded[name], tolerance, name)
        whole = x.double()
        stats = torch.stack((whole.mean(dim=(0, 2, 3)), whole.std(dim=(0, 2, 3), correction=0)))
        check(stats, recorded[f"{name}_stats"], tolerance, f"{name}_stats")
    for name in ("mu", "logvar", "c"):
        check(getattr(output, name), DATA[name], tolerance, name)
    if record.endswith("train"):
        after = from_reference("generator", section(DATA, f"{record}/sd_after/"))
        check_all(running_statistics(model), after, tolerance)


def test_gradients():
    model = generator("train")
    images = model(DATA["speech"], DATA["z"], DATA["eps"]).images
    scalar = sum((image * image * DATA[f"grad_weight{i}"]).mean() for i, image in enumerate(images))
    check(scalar, DATA["train/grad_scalar"], TOLERANCE["train"])
    scalar.backward()
    found = gradients(model)
    whole, cut = section(DATA, "train/grad/"), section(DATA, "train/grad_rows8/")
    assert len(whole) + len(cut) == len(found)
    check_all(found, from_reference("generator", whole), TOLERANCE["train"])
    for key, expected in cut.items():
        check(found[our_key("generator", key)][:8], expected, TOLERANCE["train"], key)
