"""Three iterations of stage 2's training against `step.safetensors`: the first in full, the others by their losses."""

import pytest
import torch
import torch.nn.functional as F
from golden_support import DEVICES, check, check_all, on, read, section, without_tf32
from reference_weights import from_reference, our_key
from torch import Tensor

from s2igan.models.generator import GeneratorConfig
from s2igan.training import rdg
from s2igan.training.optimisation import Ema
from s2igan.training.trainer import TrainerConfig

DATA = read("step")
SCALES = (64, 128, 256)
NETWORKS = {
    "G": "generator",
    "D64": "discriminator",
    "D128": "discriminator",
    "D256": "discriminator",
    "RS": "relation",
}
LOSS_TOLERANCE = {1: 1e-5, 2: 1e-4, 3: 1e-4}  # rounding noise grows with each update
GRADIENT_TOLERANCE = 1e-4
STATE_TOLERANCE = 1e-5
EMA_TOLERANCE = 5e-7  # the whole movement of one step is 2e-7: a decay of 0.99 would be off by 2e-6
LEARNING_RATE = 2e-4
CONFIG = rdg.RDGConfig(
    trainer=TrainerConfig(steps=3),
    generator=GeneratorConfig(embedding=16, condition=8, z=10, width=8, resolutions=SCALES),
    discriminator_width=2,
    relation_hidden=16,
    relation_logits=4,
    batch_size=4,
)
RELATION_TERMS = {
    "identical": "ce_same",
    "positive": "ce_similar",
    "fake": "ce_fake",
    "negative": "ce_wrong",
    "total": "loss",
}

CPU = torch.device("cpu")


def enlarged(data: dict[str, Tensor], name: str, side: int) -> Tensor:
    times = side // 32
    return data[name].repeat_interleave(times, 2).repeat_interleave(times, 3)


def encode(images: Tensor) -> Tensor:
    """The record's stand-in for the image encoder; its means over 64x64 pixels are taken in float64."""
    pooled = F.adaptive_avg_pool2d(images.double(), 4).float().flatten(1)
    weight, bias = (DATA[f"encoder/L1.{name}"].to(images.device) for name in ("weight", "bias"))
    return F.normalize(F.linear(pooled, weight, bias), dim=1)


def batch(iteration: int, device: torch.device = CPU) -> rdg.RDGBatch:
    data = on(device, section(DATA, "in/"))
    return rdg.RDGBatch(
        real={side: enlarged(data, "real", side) for side in SCALES},
        mismatched={side: enlarged(data, "wrong", side) for side in SCALES},
        embedding=data["speech"],
        z=data[f"z{iteration}"],
        eps=data[f"eps{iteration}"],
        relation_features={
            "real": encode(enlarged(data, "real", 256)),
            "similar": encode(enlarged(data, "same", 256)),
            "negative": encode(enlarged(data, "wrong", 256)),
        },
    )


def networks(state: rdg.RDGState) -> dict[str, torch.nn.Module]:
    return {
        "G": state.generator,
        **{f"D{side}": network for side, network in state.discriminators.items()},
        "RS": state.relation,
    }


def recorded(device: torch.device = CPU):
    """Losses of three iterations; of the first also gradients, states, moving average and the generator's output."""
    state = rdg.make_state(CONFIG, image_embedding=32, encode=encode, speech=None, seed=0, device=device)
    nets = networks(state)
    for name, network in nets.items():
        # PyTorch's batch norm rounds less closely in the channels-last layout than these tolerances.
        network.to(memory_format=torch.contiguous_format)
        network.load_state_dict(from_reference(NETWORKS[name], section(DATA, f"before/{name}/")))
    state.ema = Ema(state.generator, CONFIG.ema_decay)  # the average begins at these weights

    record = {"losses": {}, "grad": {}, "output": None}
    optimisers = {
        "G": state.generator_optimiser,
        **{f"D{side}": optimiser for side, optimiser in state.discriminator_optimisers.items()},
        "RS": state.relation_optimiser,
    }

    def seen_by(name):
        def hook(*_):
            record["grad"][name] = {key: parameter.grad.clone() for key, parameter in nets[name].named_parameters()}

        return hook

    hooks = [optimiser.register_step_pre_hook(seen_by(name)) for name, optimiser in optimisers.items()]
    hooks.append(state.generator.register_forward_hook(lambda *args: record.update(output=args[-1])))
    record["losses"][1] = rdg.step(state, batch(1, device), CONFIG)
    for hook in hooks:
        hook.remove()
    record["after"] = {
        name: {key: tensor.clone() for key, tensor in network.state_dict().items()} for name, network in nets.items()
    }
    record["ema"] = {key: tensor.clone() for key, tensor in state.ema.parameters.items()}
    for iteration in (2, 3):
        record["losses"][iteration] = rdg.step(state, batch(iteration, device), CONFIG)
    return record


@pytest.fixture(scope="module", params=DEVICES)
def run(request):
    with without_tf32():
        return recorded(torch.device(request.param))


def cut(name: str, recorded: dict[str, Tensor], actual: dict[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """(Ours, recorded) by our key; of large tensors the record holds every n-th element."""
    pairs = {}
    for key, expected in recorded.items():
        ours = actual[our_key(NETWORKS[name], key)]
        stride = DATA.get(f"stride/{name}/{key}")
        pairs[key] = (ours if stride is None else ours.flatten()[:: int(stride)], expected)
    return pairs


@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_losses_of_the_discriminators(run, iteration):
    losses, tolerance = run["losses"][iteration], LOSS_TOLERANCE[iteration]
    for side in SCALES:
        for name, expected in section(DATA, f"step{iteration}/D{side}/").items():
            ours = {"loss": "total"}.get(name, name.replace("wrong", "mismatched"))
            check(losses[f"discriminator_{side}/{ours}"], expected, tolerance, f"D{side} {name}")


@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_losses_of_the_relation_supervisor(run, iteration):
    for ours, theirs in RELATION_TERMS.items():
        check(
            run["losses"][iteration][f"relation/{ours}"],
            DATA[f"step{iteration}/RS/{theirs}"],
            LOSS_TOLERANCE[iteration],
        )


@pytest.mark.parametrize("iteration", [1, 2, 3])
def test_losses_of_the_generator(run, iteration):
    recorded = section(DATA, f"step{iteration}/G/")
    losses = section(run["losses"][iteration], "generator/")
    actual = losses | {"loss": losses["total"], "rs": losses["relation"], "kl_times_2": CONFIG.kl * losses["kl"]}
    check_all(actual, recorded, LOSS_TOLERANCE[iteration])


def test_output_of_the_generator(run):
    for image, side in zip(run["output"].images, SCALES, strict=True):
        check(image[:, :, :: side // 32, :: side // 32], DATA[f"step1/fake{side}"], GRADIENT_TOLERANCE, f"fake{side}")
    check(run["output"].mu, DATA["step1/mu"], STATE_TOLERANCE)
    check(run["output"].logvar, DATA["step1/logvar"], STATE_TOLERANCE)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(run, name):
    pairs = cut(name, section(DATA, f"grad/{name}/"), run["grad"][name])
    assert len(pairs) == len(run["grad"][name])
    for key, (ours, expected) in pairs.items():
        check(ours, expected, GRADIENT_TOLERANCE, key)


@pytest.mark.parametrize("name", NETWORKS)
def test_state_after(run, name):
    grad = section(DATA, f"grad/{name}/")
    arbitrary = 0
    for key, (ours, expected) in cut(name, section(DATA, f"after/{name}/"), run["after"][name]).items():
        if key in grad:  # where the gradient is rounding noise, so is the sign of Adam's first step
            noise = grad[key].abs() <= 1e-5
            check(ours[~noise], expected[~noise], STATE_TOLERANCE, key)
            check(ours[noise], expected[noise], 2 * LEARNING_RATE, key)
            arbitrary += int(noise.sum())
        elif (name, key) == ("RS", "b1.running_mean"):  # carries the arbitrary signs of the bias in front of it
            check(ours, expected, 4e-5, key)
        else:
            check(ours, expected, STATE_TOLERANCE, key)
    assert arbitrary <= 24


def test_moving_average(run):
    recorded = section(DATA, "after/EMA/")
    moved = {key: value for key, value in recorded.items() if not torch.equal(value, DATA[f"after/G/{key}"])}
    assert len(moved) > 30  # the average is not the weights themselves
    network_keys = {f"{key}": value for key, value in recorded.items()}
    pairs = cut("G", network_keys, run["ema"])
    assert len(pairs) == len(run["ema"])
    for key, (ours, expected) in pairs.items():
        check(ours, expected, EMA_TOLERANCE, key)
