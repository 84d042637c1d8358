"""What `test_processes.py` has two processes do: torchrun starts this, each process leaves what it found in a folder.

Its networks and batches are functions, so that the test can do the same in one process.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.models import image_encoder
from s2igan.models.generator import GeneratorConfig
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.training import distributed, optimisation, rdg, sen
from s2igan.training.data import pyramid
from s2igan.training.train import train_run
from s2igan.training.trainer import TrainerConfig
from tiny_corpus import tiny_recipe, with_rdg

CPU = torch.device("cpu")
ROWS = 8
SCALES = (8, 16)
STEPS = 4
RECIPE = with_rdg(tiny_recipe(STEPS), speech="finetuned")


def alike(actual, expected, tolerance=2e-5):
    assert actual.keys() == expected.keys()
    for key in expected:
        scale = max(1.0, float(expected[key].abs().max()))
        scale *= 10 if key.endswith("gradient_norm") else 1  # it adds up the rounding of every gradient
        torch.testing.assert_close(
            actual[key], expected[key], rtol=0, atol=tolerance * scale, msg=lambda text, key=key: f"{key}: {text}"
        )


class Halves(nn.Module):
    """An encoder whose batch norms see one half of the batch at a time, as those of two processes do."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, mel: Tensor, lengths: Tensor) -> Tensor:
        parts = zip(mel.chunk(2), lengths.chunk(2), strict=True)
        return torch.cat([self.encoder(*part) for part in parts])


def sen_step(rows: slice, *, halves: bool = False) -> dict[str, Tensor]:
    """One step of stage 1 on some rows of a batch: losses, and the gradients stepped on."""
    speech = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=4, normalize_pooled=True)
    image = ImageEncoderConfig(embedding=speech.embedding)
    config = sen.SENConfig(trainer=TrainerConfig(steps=1), speech=speech, image=image, batch_size=ROWS)
    state = sen.make_state(config, 3, seed=0, device=CPU)
    rng = torch.Generator().manual_seed(1)
    mel, features = torch.randn(ROWS, 40, 40, generator=rng), torch.randn(ROWS, image.features, generator=rng)
    lengths, ids = torch.tensor([40, 30, 35, 40, 40, 22, 31, 40]), torch.tensor([0, 1, 2, 0, 1, 2, 1, 0])
    batch = sen.SENBatch(mel[rows], lengths[rows], features[rows], ids[rows])
    networks = {"speech": state.speech, "image": state.image.head, "classifier": state.classifier}
    if halves:
        state.speech = Halves(state.speech)
    gradients = watch(networks, [state.optimiser])
    return distributed.means(sen.step(state, batch, config)) | gradients


def rdg_step(rows: slice | Tensor, **options) -> dict[str, Tensor]:
    """The same of stage 2."""
    config = rdg.RDGConfig(
        trainer=TrainerConfig(steps=1),
        generator=GeneratorConfig(embedding=6, condition=3, z=4, width=4, resolutions=SCALES),
        discriminator_width=2,
        relation_hidden=5,
        batch_size=ROWS,
    )
    config = replace(config, **options)
    state = rdg.make_state(config, image_embedding=6, encode=encode, speech=None, seed=0, device=CPU)
    networks = {"generator": state.generator, "relation": state.relation} | {
        f"discriminator_{side}": network for side, network in state.discriminators.items()
    }
    optimisers = [state.generator_optimiser, state.relation_optimiser, *state.discriminator_optimisers.values()]
    gradients = watch(networks, optimisers)
    losses = distributed.means(rdg.step(state, rdg_batch(rows), config))
    statistics = {
        f"{name}.{key}": buffer.float() for name, network in networks.items() for key, buffer in network.named_buffers()
    }
    return losses | gradients | statistics


def watch(networks: dict[str, nn.Module], optimisers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Gradients as the optimisers will see them, in a dictionary that their steps fill."""
    gradients: dict[str, Tensor] = {}
    names = {p: f"{name}.{key}" for name, network in networks.items() for key, p in network.named_parameters()}

    def look(optimiser, *_):
        for group in optimiser.param_groups:
            gradients.update({names[p]: p.grad.clone() for p in group["params"] if p.grad is not None})

    for optimiser in optimisers:
        optimiser.register_step_pre_hook(look)
    return gradients


def rdg_batch(rows: slice | Tensor) -> rdg.RDGBatch:
    rng = torch.Generator().manual_seed(1)
    real, mismatched, similar = torch.rand(3, ROWS, 3, 16, 16, generator=rng) * 2 - 1
    embedding = F.normalize(torch.randn(ROWS, 6, generator=rng), dim=1)
    z, eps = torch.randn(ROWS, 4, generator=rng), torch.randn(ROWS, 3, generator=rng)
    return rdg.RDGBatch(
        real=pyramid(real[rows], SCALES),
        mismatched=pyramid(mismatched[rows], SCALES),
        embedding=embedding[rows],
        z=z[rows],
        eps=eps[rows],
        relation_features={
            name: encode(images[rows])
            for name, images in (("real", real), ("similar", similar), ("negative", mismatched))
        },
    )


def encode(images: Tensor) -> Tensor:
    weight = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return F.normalize(F.conv2d(images, weight).flatten(1), dim=1)


def refusals() -> dict[str, str]:
    """What goes wrong in one process is known to both."""
    told = {}
    layer = nn.Linear(2, 1)
    optimiser = optimisation.adam(layer.parameters(), 1.0, (0.9, 0.999))
    optimisation.backward(layer(torch.ones(1, 2)).sum() * (torch.nan if distributed.rank() else 1.0))
    told["norm"] = str(float(optimisation.optimiser_step({"layer": optimiser})["layer/gradient_norm"]))
    for name, action in {"share": lambda: distributed.share(5), "first": lambda: distributed.first(refuse)}.items():
        try:
            action()
        except UserError as error:
            told[name] = str(error)
    told["value"] = str(distributed.first(lambda: 7))
    told["anywhere"] = str(distributed.anywhere(distributed.rank() == 1, CPU))
    return told


def refuse() -> None:
    raise UserError("no, thanks — niemals.")


def one_backbone() -> None:
    """As `conftest.py` does: built within a stage, the backbone would shift the draws of the first networks."""
    backbone = image_encoder.build_backbone("efficientnet_lite0")
    image_encoder.load_in_order(backbone, "efficientnet_lite0")
    image_encoder.build_backbone = lambda name: backbone
    image_encoder.load_in_order = lambda network, name: None


def main(data: Path, out: Path) -> None:
    left = out / f"left-{os.environ['RANK']}"
    atexit.register(lambda: left.write_text(str(not dist.is_initialized())))  # after what `start` registers
    distributed.start("cpu")
    one_backbone()
    rows = distributed.share(ROWS)
    results = {"sen": sen_step(rows), "rdg": rdg_step(rows), "accumulated": rdg_step(rows, accumulate=2)}
    for name, values in results.items():
        save_file(
            {key: value.contiguous() for key, value in values.items()}, out / f"{name}-{distributed.rank()}.safetensors"
        )
    (out / f"told-{distributed.rank()}.json").write_text(json.dumps(refusals()))
    store = Store.open(data)
    train_run(RECIPE, data=store.directory, out=out / "first", device="cpu", seed=3, stage="1")
    train_run(RECIPE, data=store.directory, out=out / "whole", device="cpu", seed=3, sen_from=out / "first")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
