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
from s2igan.models.blocks import seeded
from s2igan.models.generator import GeneratorConfig
from s2igan.models.image_encoder import ImageEncoderConfig
from s2igan.models.speech_encoder import SpeechEncoderConfig
from s2igan.training import distributed as processes
from s2igan.training import rdg, rdg_config, rdg_state, sen, update
from s2igan.training.adam import Adam
from s2igan.training.batch_norm import synchronise
from s2igan.training.train import train_run
from s2igan.training.trainer import LoopConfig
from tiny_corpus import tiny_recipe, with_rdg

CPU = torch.device("cpu")
ROWS = 8
SCALES = (8, 16)
STEPS = 4
TINY = tiny_recipe(STEPS)
LOOP = replace(TINY.rdg.loop, sync_batch_norm=True)
RECIPE = with_rdg(
    replace(TINY, sen=replace(TINY.sen, loop=LOOP)),
    loop=LOOP,
    speech="finetuned",
    contrast=0.5,
    contrast_dim=4,
    semantic=0.3,
)


def alike(actual, expected, tolerance=2e-5, parts=1):
    assert actual.keys() == expected.keys()
    for key in expected:
        scale = max(1.0, float(expected[key].abs().max()))
        if key == "relation.norm.running_mean":
            # Adam steps by the learning rate along the sign of the gradient, which rounding alone gives the bias in
            # front: apart by two rates of 2e-4, of which the later pass of each part takes a tenth.
            scale *= 2 * parts
        torch.testing.assert_close(
            actual[key], expected[key], rtol=0, atol=tolerance * scale, msg=lambda text, key=key: f"{key}: {text}"
        )


def sen_step(rows: slice) -> dict[str, Tensor]:
    """One step of stage 1 on some rows of a batch: losses, the gradients stepped on, and the state after."""
    speech = SpeechEncoderConfig(conv_channels=(6, 8), hidden=8, layers=1, attention_hidden=4, normalize_pooled=True)
    image = ImageEncoderConfig(pooling="pyramid", embedding=speech.embedding)
    config = sen.SENConfig(loop=LoopConfig(steps=1), speech=speech, image=image, batch_size=ROWS)
    state = sen.make_state(config, 3, seed=0, device=CPU)
    for network in (state.speech, state.image.head):
        synchronise(network)
    rng = torch.Generator().manual_seed(1)
    mel, features = torch.randn(ROWS, 40, 40, generator=rng), torch.randn(ROWS, image.features, generator=rng)
    lengths, ids = torch.tensor([40, 30, 35, 40, 22, 40, 31, 40]), torch.tensor([0, 1, 2, 0, 1, 2, 1, 0])
    batch = sen.SENBatch(mel[rows], lengths[rows], features[rows], ids[rows])
    losses = sen.step(state, batch, config)
    networks = {"speech": state.speech, "image": state.image.head, "classifier": state.classifier}
    return processes.means(losses) | found(networks)


def rdg_step(rows: slice | Tensor, **options) -> dict[str, Tensor]:
    """The same of stage 2, with everything that compares the rows of a batch."""
    config = rdg_config.RDGConfig(
        loop=LoopConfig(steps=1),
        generator=GeneratorConfig(embedding=6, condition=3, z=4, width=4, resolutions=SCALES),
        discriminator_width=2,
        relation_hidden=5,
        batch_size=ROWS,
        contrast=0.5,
        contrast_dim=7,
        semantic=0.3,
    )
    config = replace(config, **options)
    state = rdg_state.make_state(config, image_embedding=6, encode=encode, speech=None, seed=0, device=CPU)
    networks = {"generator": state.generator, "relation": state.relation} | {
        f"discriminator_{side}": network for side, network in state.discriminators.items()
    }
    for network in networks.values():
        synchronise(network)
    return processes.means(rdg.step(state, rdg_batch(rows), config)) | found(networks)


def rdg_batch(rows: slice | Tensor) -> rdg_state.RDGBatch:
    rng = torch.Generator().manual_seed(1)
    real, mismatched, similar = torch.rand(3, ROWS, 3, 16, 16, generator=rng) * 2 - 1
    embedding = F.normalize(torch.randn(ROWS, 6, generator=rng), dim=1)
    z, eps = torch.randn(ROWS, 4, generator=rng), torch.randn(ROWS, 3, generator=rng)
    return rdg_state.RDGBatch(
        real=rdg_state.pyramid(real[rows], SCALES),
        mismatched=rdg_state.pyramid(mismatched[rows], SCALES),
        embedding=embedding[rows],
        z=z[rows],
        eps=eps[rows],
        class_ids=torch.tensor([0, 1, 2, 0, 3, 1, 0, 2])[rows],
        relation_features={
            name: encode(images[rows])
            for name, images in (("real", real), ("similar", similar), ("negative", mismatched))
        },
    )


def encode(images: Tensor) -> Tensor:
    weight = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    return F.normalize(F.conv2d(images, weight).flatten(1), dim=1)


def found(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Gradients as this process's optimisers saw them, and running statistics."""
    values = {}
    for name, network in networks.items():
        values |= {
            f"{name}.{key}": parameter.grad.clone()
            for key, parameter in network.named_parameters()
            if parameter.grad is not None
        }
        values |= {f"{name}.{key}": buffer.float() for key, buffer in network.named_buffers()}
    return values


def batch_norm(shape: tuple[int, ...], norm: nn.Module, rows: slice) -> dict[str, Tensor]:
    """Output and every gradient of a batch norm whose loss weighs each value differently."""
    rng = torch.Generator().manual_seed(2)
    x, weight = (3 + 2 * torch.randn(shape, generator=rng))[rows].requires_grad_(), torch.randn(shape, generator=rng)
    network = nn.Sequential(norm)
    synchronise(network)
    y = network(x)
    (y * weight[rows]).sum().backward()
    values = {"y": y.detach(), "grad_x": x.grad, "mean": norm.running_mean, "var": norm.running_var}
    if norm.affine:
        values |= {"grad_weight": norm.weight.grad, "grad_bias": norm.bias.grad}
    return values


def batch_norms(rows: slice) -> dict[str, Tensor]:
    norms = {
        "2d": batch_norm((ROWS, 3, 5, 4), nn.BatchNorm2d(3), rows),
        "1d": batch_norm((ROWS, 3), nn.BatchNorm1d(3, affine=False), rows),
        "average": batch_norm((ROWS, 3, 2), nn.BatchNorm1d(3, momentum=None), rows),
    }
    return {f"{kind}.{key}": value for kind, values in norms.items() for key, value in values.items()}


STEPS_OF = {"sen": sen_step, "rdg": rdg_step, "norm": batch_norms}


def refusals() -> dict[str, str]:
    """What goes wrong in one process is known to both."""
    told = {}
    with seeded(0):
        layer = nn.Linear(2, 1)
    before = layer.weight.detach().clone()
    loss = layer(torch.ones(1, 2)).sum() * (torch.nan if processes.rank() else 1.0)
    try:
        update.update(Adam(layer.parameters(), 1.0, (0.9, 0.999)), loss, "the layer")
    except update.NotFiniteError as error:
        told["broken"] = str(error)
    told["moved"] = str(not torch.equal(before, layer.weight))
    for name, action in {"share": lambda: processes.share(5), "first": lambda: processes.first(refuse)}.items():
        try:
            action()
        except UserError as error:
            told[name] = str(error)
    told["value"] = str(processes.first(lambda: 7))
    told["anywhere"] = str(processes.anywhere(processes.rank() == 1, CPU))
    return told


def refuse() -> None:
    raise UserError("no, thanks — niemals.")


def one_backbone() -> None:
    """As `conftest.py` does: built within a stage, the backbone would shift the draws of the first networks."""
    backbone = image_encoder.build_backbone("efficientnet_lite0")
    image_encoder._load_lite0(backbone, None)
    image_encoder.build_backbone = lambda name: backbone
    image_encoder._load_lite0 = lambda network, weights: None


def steps(rows: slice, way: str) -> dict[str, dict[str, Tensor]]:
    """A step of each stage, and batch norms."""
    return {f"{name}-{way}": make(rows) for name, make in STEPS_OF.items()}


def main(data: Path, out: Path) -> None:
    left = out / f"left-{os.environ['RANK']}"
    atexit.register(lambda: left.write_text(str(not dist.is_initialized())))  # after what `start` registers
    processes.start("cpu")
    one_backbone()
    rows = processes.share(ROWS)
    assert processes._link is not None  # the way of processes of one machine
    results = {"accumulated-link": rdg_step(rows, accumulate=2)} | steps(rows, "link")
    link, processes._link = processes._link, None  # and of several
    results |= steps(rows, "gloo")
    processes._link = link
    for name, values in results.items():
        save_file(
            {key: value.contiguous() for key, value in values.items()}, out / f"{name}-{processes.rank()}.safetensors"
        )
    (out / f"told-{processes.rank()}.json").write_text(json.dumps(refusals()))
    store = Store.open(data)
    train_run(RECIPE, data=store.directory, out=out / "whole", device="cpu", seed=3)
    train_run(RECIPE, data=store.directory, out=out / "first", device="cpu", seed=3, stage="sen")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
