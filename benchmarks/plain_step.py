"""Stage 2's full-size step (64, 128 and 256 px, width 64) beside the same step written plainly, in one process.

Plain is: float32, contiguous, nearest-neighbour enlargement and then a convolution, the condition repeated over the map
and concatenated, a separate pass of the discriminators for every kind of image, discriminators not frozen while the
generator learns, Inception-v3 with its batch norms. It has the same weights, batches and results
(`tests/benchmarks/test_plain_step.py` holds it to the golden step). All are taken in turns; images are encoded within
the step, by Inception-v3 with random weights, but for the real ones of `bf16_cached_views`, which `image_views` encodes
once.

Prints one JSON object: seconds a step (best of `--repeats`), images/s, their ratio, GFLOP/s by the count of operations
of the project's step, and its share of the measured bf16 convolution peak.

    .venv/bin/python benchmarks/plain_step.py --batch 8 --repeats 2
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from s2igan.losses import kl_loss
from s2igan.models.blocks import ConcatConv3x3, UpBlock
from s2igan.models.generator import GeneratorConfig, noise
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig, build_backbone
from s2igan.models.relation import Relation
from s2igan.recipes import resolve
from s2igan.training import rdg
from s2igan.training.data import pyramid
from s2igan.training.precision import autocast, convolution_gflops
from s2igan.training.trainer import TrainerConfig

CPU = torch.device("cpu")
INCEPTION = ImageEncoderConfig(backbone="inception_v3")


class PlainConcatConv3x3(ConcatConv3x3):
    """The condition repeated over the map, concatenated, convolved."""

    def forward(self, c: Tensor, h: Tensor) -> Tensor:
        tiled = c[:, :, None, None].expand(-1, -1, *h.shape[-2:])
        return F.conv2d(torch.cat((tiled, h), dim=1), self.weight, padding=1)


class PlainUpBlock(UpBlock):
    """Every pixel becomes four; then a convolution."""

    def forward(self, h: Tensor) -> Tensor:
        return F.glu(self.norm(self.conv(F.interpolate(h, scale_factor=2, mode="nearest"))), dim=1)


PLAIN: dict[type[nn.Module], type[nn.Module]] = {ConcatConv3x3: PlainConcatConv3x3, UpBlock: PlainUpBlock}


def plain(state: rdg.RDGState) -> rdg.RDGState:
    """The same networks, plainly computed and contiguous."""
    for network in (state.generator, *state.discriminators.values()):
        network.to(memory_format=torch.contiguous_format)
        for part in network.modules():
            if type(part) in PLAIN:
                part.__class__ = PLAIN[type(part)]
    return state


def image_encoder(config: ImageEncoderConfig, *, plain: bool) -> ImageEncoder:
    """The same random weights either way; plainly, contiguous and with its batch norms."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        image = ImageEncoder(config, pretrained=False)
        if plain:
            torch.manual_seed(0)
            image.backbone = build_backbone(config.backbone).requires_grad_(False).eval()
    return image


def bce(logits: Tensor, target: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def cross_entropy(logits: Tensor, relation: Relation) -> Tensor:
    return F.cross_entropy(logits, torch.full((len(logits),), int(relation)))


def take(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of an optimiser."""
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def plain_step(state: rdg.RDGState, batch: rdg.RDGBatch, config: rdg.RDGConfig) -> dict[str, Tensor]:
    """What `rdg.step` does with the paper's options, term after term, under the same names."""
    assert isinstance(batch.embedding, Tensor)
    assert state.encode is not None
    assert state.relation is not None
    assert state.relation_optimiser is not None
    log: dict[str, Tensor] = {}
    out = state.generator(batch.embedding, batch.z, batch.eps)
    fakes = dict(zip(config.generator.resolutions, out.images, strict=True))
    mu = out.mu.detach()

    for side, network in state.discriminators.items():
        real_cond, real_uncond = network(batch.real[side], mu)
        wrong_cond, wrong_uncond = network(batch.mismatched[side], mu)
        fake_cond, fake_uncond = network(fakes[side].detach(), mu)
        terms = {
            "real_cond": bce(real_cond, 1),
            "fake_cond": bce(fake_cond, 0),
            "real_uncond": bce(real_uncond, 1),
            "fake_uncond": bce(fake_uncond, 0),
            "mismatched_cond": bce(wrong_cond, 0),
            "mismatched_uncond": bce(wrong_uncond, 1),
        }
        terms["total"] = sum(terms.values(), torch.zeros(()))
        take(state.discriminator_optimisers[side], terms["total"])
        log |= {f"discriminator_{side}/{name}": term for name, term in terms.items()}

    real = batch.relation_features["real"]
    fake = state.encode(fakes[config.generator.resolutions[-1]])
    identical = state.relation(real, real)
    positive = state.relation(real, batch.relation_features["similar"])
    generated = state.relation(real, fake.detach())
    negative = state.relation(real, batch.relation_features["negative"])
    terms = {
        "identical": cross_entropy(identical, Relation.IDENTICAL),
        "positive": cross_entropy(positive, Relation.POSITIVE),
        "fake": cross_entropy(generated, Relation.POSITIVE),
        "negative": cross_entropy(negative, Relation.NEGATIVE),
    }
    terms["total"] = sum(terms.values(), torch.zeros(()))
    take(state.relation_optimiser, terms["total"])
    log |= {f"relation/{name}": term for name, term in terms.items()}

    terms = {}
    for side, network in state.discriminators.items():
        cond, uncond = network(fakes[side], out.mu)
        terms |= {f"cond_{side}": bce(cond, 1), f"uncond_{side}": bce(uncond, 1)}
    terms["relation"] = cross_entropy(state.relation(real, fake), Relation.POSITIVE)
    terms["kl"] = kl_loss(out.mu, out.logvar)
    total = sum((term for name, term in terms.items() if name != "kl"), config.kl * terms["kl"])
    take(state.generator_optimiser, total)
    log |= {f"generator/{name}": term for name, term in (terms | {"total": total}).items()}

    with torch.no_grad():
        for name, parameter in state.generator.named_parameters():
            average = state.ema.parameters[name]
            average.mul_(config.ema_decay).add_(parameter, alpha=1 - config.ema_decay)
    return {name: term.detach() for name, term in log.items()}


class Step:
    """One of the two steps with its networks; a call takes it on a fresh batch and encodes that batch's real images."""

    def __init__(
        self,
        config: rdg.RDGConfig,
        precision: str | None,
        *,
        cached: bool = False,
        image: ImageEncoderConfig = INCEPTION,
    ) -> None:
        """`precision` None is the plain step; `cached` has the features of real images ready before the step."""
        self.precision, self.cached = precision, cached
        self.layout = torch.contiguous_format if precision is None else torch.channels_last
        """Of images."""
        self.config = config
        self.image = image_encoder(image, plain=precision is None).eval()
        self.image.requires_grad_(False)
        n = image.embedding
        state = rdg.make_state(config, image_embedding=n, encode=self.image, speech=None, seed=0, device=CPU)
        self.state = plain(state) if precision is None else state

    def __call__(self, seed: int) -> dict[str, Tensor]:
        if self.precision is None:
            return plain_step(self.state, self.batch(seed), self.config)
        with autocast(self.precision, CPU):  # type: ignore[arg-type]
            return rdg.step(self.state, self.batch(seed), self.config)

    def batch(self, seed: int) -> rdg.RDGBatch:
        """Noise in the place of images and embeddings."""
        config, rng = self.config, torch.Generator().manual_seed(seed)
        n, sides = config.batch_size, config.generator.resolutions
        images = [torch.rand(n, 3, sides[-1], sides[-1], generator=rng) * 2 - 1 for _ in range(3)]
        images = [image.contiguous(memory_format=self.layout) for image in images]
        z, eps = noise(config.generator, n, rng)
        if self.cached:
            features = list(F.normalize(torch.randn(3, n, self.image.config.embedding, generator=rng), dim=2))
        else:
            with torch.no_grad():
                features = [self.image(image) for image in images]
        return rdg.RDGBatch(
            real=pyramid(images[0], sides),
            mismatched=pyramid(images[1], sides),
            embedding=F.normalize(torch.randn(n, config.generator.embedding, generator=rng), dim=1),
            z=z,
            eps=eps,
            relation_features=dict(zip(("real", "negative", "similar"), features, strict=True)),
        )


def of_recipe(name: str, precision: str | None, batch: int, *, cached: bool = False) -> Step:
    """The paper's step in a recipe's sizes."""
    recipe = resolve(name)
    config = rdg.RDGConfig(
        trainer=TrainerConfig(steps=1),
        generator=recipe.rdg.generator,
        discriminator_width=recipe.rdg.discriminator_width,
        batch_size=batch,
    )
    return Step(config, precision, cached=cached, image=recipe.sen.image)


def compare(batch: int, repeats: int, width: int, sides: tuple[int, ...], bf16: bool = True) -> dict[str, Any]:
    """Times of the plain step and of ours, in turns."""
    config = rdg.RDGConfig(
        trainer=TrainerConfig(steps=1),
        generator=GeneratorConfig(width=width, resolutions=sides),
        discriminator_width=width,
        batch_size=batch,
    )
    steps = {"plain": Step(config, None), "float32": Step(config, "float32")}
    if bf16:
        steps["bf16"] = Step(config, "bf16")
        steps["bf16_cached_views"] = Step(config, "bf16", cached=True)
    times: dict[str, list[float]] = {name: [] for name in steps}
    processor: dict[str, list[float]] = {name: [] for name in steps}
    counted: dict[str, int] = {}
    for repeat in range(repeats + 1):  # the first is not counted
        for name, step in steps.items():
            counter = FlopCounterMode(display=False)
            started, processed = time.perf_counter(), time.process_time()
            if repeat:
                step(repeat)
            else:
                with counter:
                    step(repeat)
                counted[name] = counter.get_total_flops()
            times[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - processed)
    peak = convolution_gflops(torch.bfloat16, CPU, batch=16)
    facts: dict[str, Any] = {
        "batch": batch,
        "width": width,
        "sides": sides,
        "threads": torch.get_num_threads(),
        "bf16_convolution_peak_gflops": round(peak, 1),
        "float32_convolution_peak_gflops": round(convolution_gflops(torch.float32, CPU, batch=16), 1),
    }
    for name in steps:
        best = min(times[name][1:])
        facts[name] = {
            "seconds": round(best, 3),
            "processor_seconds": round(min(processor[name][1:]), 3),
            "images_per_second": round(batch / best, 3),
            "gflop_per_image": round(counted[name] / batch / 1e9, 1),
            "gflops": round(counted[name] / best / 1e9, 1),
            "share_of_bf16_peak": round(counted[name] / best / 1e9 / peak, 3),
            "times_plain": round(min(times["plain"][1:]) / best, 2),
        }
    return facts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    options = parser.parse_args()
    print(json.dumps(compare(options.batch, options.repeats, options.width, tuple(options.sides))))
