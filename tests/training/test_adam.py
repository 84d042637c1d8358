"""Adam that three linked processes divide among themselves, against PyTorch's in one."""

import pytest
import torch
from linked import THREE, in_processes
from torch import nn

from s2igan.training import distributed as processes
from s2igan.training import update
from s2igan.training.adam import Adam, divide

RATE, BETAS, DECAY = 0.05, (0.5, 0.9), 0.1
BATCH = 6


def networks():
    """Two, in both layouts, with a last layer that no loss sees."""
    torch.manual_seed(0)
    one = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5 * 4, 2), nn.Linear(3, 3))
    two = nn.Sequential(nn.Conv2d(3, 7, 2), nn.Flatten(), nn.Linear(7 * 9, 1)).to(memory_format=torch.channels_last)
    return {"one": one, "two": two}


def loss(network, step, rows):
    images = torch.randn(BATCH, 3, 4, 4, generator=torch.Generator().manual_seed(step))
    return network[:3](images[rows]).square().sum() * THREE  # the mean over processes is the sum over rows


def train(nets, optimisers, steps, rows):
    for step in steps:
        for name, network in nets.items():
            update.backward(optimisers[name], loss(network, step, rows))
        update.take_steps(optimisers)


def make(kind=Adam):
    nets = networks()
    return nets, {name: kind(network.parameters(), RATE, BETAS, weight_decay=DECAY) for name, network in nets.items()}


def found(nets, optimisers):
    """Weights and averages, as lists, which are independent of shared memory."""
    weights = {f"{name}.{key}": x.tolist() for name, net in nets.items() for key, x in net.state_dict().items()}
    for name, optimiser in optimisers.items():
        for number, state in optimiser.state_dict()["state"].items():
            weights |= {f"{name}.{number}.{key}": x.tolist() for key, x in state.items()}
    return weights


@pytest.fixture
def three(tmp_path, monkeypatch):
    """Runs `work(rank)` in linked processes."""

    def run(work):
        def linked(link):
            monkeypatch.setattr(processes, "_link", link)
            monkeypatch.setattr(update, "world_size", lambda: THREE)
            return work(link.rank)

        return in_processes(tmp_path, linked)

    return run


def rows_of(rank):
    return slice(2 * rank, 2 * rank + 2)


def alone(steps):
    """PyTorch's Adam on whole batches."""
    nets, optimisers = make(torch.optim.Adam)
    for step in steps:
        for name, network in nets.items():
            optimisers[name].zero_grad()
            (loss(network, step, slice(0, BATCH)) / THREE).backward()
            optimisers[name].step()
    return nets, optimisers


def assert_close(actual, expected):
    for key, value in expected.items():
        torch.testing.assert_close(torch.tensor(actual[key]), torch.tensor(value), msg=lambda m, key=key: f"{key}: {m}")


def test_is_adam_and_all_hold_the_same(three):
    def work(rank):
        nets, optimisers = make()
        train(nets, optimisers, range(4), rows_of(rank))
        processes.meet()
        return found(nets, optimisers)

    answers = three(work)
    assert answers[0] == answers[1] == answers[2]
    expected = found(*alone(range(4)))
    assert_close(answers[0], expected)
    others = answers[0].keys() - expected.keys()
    assert others == {f"one.{number}.{key}" for number in (4, 5) for key in ("step", "exp_avg", "exp_avg_sq")}
    assert all(not torch.tensor(answers[0][key]).any() for key in others)  # what no loss sees has no averages


@pytest.mark.parametrize("gradients", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("averages", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
def test_is_adam_in_any_layout(weights, averages, gradients):
    """Fused Adam pairs numbers by their places in memory: layouts that differ must not reach it."""
    found = []
    for kind in (torch.optim.Adam, Adam):
        draw = torch.Generator().manual_seed(0)
        parameter = nn.Parameter(torch.randn(3, 5, 4, 2, generator=draw).contiguous(memory_format=weights))
        before = kind([parameter], RATE, BETAS, weight_decay=DECAY)
        optimiser = kind([parameter], RATE, BETAS, weight_decay=DECAY)

        def step(with_this, parameter=parameter, draw=draw):
            gradient = torch.randn(3, 5, 4, 2, generator=draw)
            parameter.grad = gradient.contiguous(memory_format=gradients)
            with_this.step()

        step(before)
        saved = before.state_dict()
        for name in ("exp_avg", "exp_avg_sq"):
            saved["state"][0][name] = saved["state"][0][name].contiguous(memory_format=averages)
        optimiser.load_state_dict(saved)
        step(optimiser)
        found.append({"weights": parameter, **optimiser.state[parameter]})
    for name, expected in found[0].items():
        torch.testing.assert_close(found[1][name], expected, msg=lambda m, name=name: f"{name}: {m}")


def test_goes_on_from_its_own_state_and_that_of_one_process(three):
    """Bit for bit, from what each process saved; and from what PyTorch's Adam saved."""
    torch_nets, torch_optimisers = alone(range(2))

    def state(nets, optimisers):
        copied = {name: {key: x.clone() for key, x in net.state_dict().items()} for name, net in nets.items()}
        averages = {}
        for name, optimiser in optimisers.items():
            averages[name] = optimiser.state_dict()
            averages[name]["state"] = {
                number: {key: x.clone() for key, x in values.items()}
                for number, values in averages[name]["state"].items()
            }
        return copied, averages

    def resume(saved, rank):
        nets, optimisers = make()
        train(nets, optimisers, range(7, 9), rows_of(rank))  # something else, which the state replaces
        processes.meet()
        for name in nets:
            nets[name].load_state_dict(saved[0][name])
            optimisers[name].load_state_dict(saved[1][name])
        train(nets, optimisers, range(2, 4), rows_of(rank))
        processes.meet()
        return found(nets, optimisers)

    def work(rank):
        nets, optimisers = make()
        train(nets, optimisers, range(2), rows_of(rank))
        processes.meet()
        saved = state(nets, optimisers)
        processes.meet()
        train(nets, optimisers, range(2, 4), rows_of(rank))
        processes.meet()
        uninterrupted = found(nets, optimisers)
        processes.meet()
        return uninterrupted, resume(saved, rank), resume(state(torch_nets, torch_optimisers), rank)

    for uninterrupted, resumed, from_one in three(work):
        assert resumed == uninterrupted
        assert_close(from_one, found(*alone(range(4))))


def test_one_gradient_that_is_not_finite_stops_all(three):
    def work(rank):
        nets, optimisers = make()
        before = found(nets, optimisers)
        for name, network in nets.items():
            broken = float("nan") if (name, rank) == ("two", 1) else 1.0
            update.backward(optimisers[name], broken * loss(network, 0, rows_of(rank)))
        with pytest.raises(update.NotFiniteError) as error:
            update.take_steps(optimisers)
        processes.meet()
        return str(error.value), found(nets, optimisers) == before

    assert three(work) == [("the gradient of two", True)] * THREE


def test_each_takes_about_as_much():
    loads = [0, 0, 0]
    sizes = [1, 8, 3, 4, 5, 3]
    owners = divide(sizes, loads)
    assert loads == [sum(size for size, owner in zip(sizes, owners, strict=True) if owner == i) for i in range(3)]
    assert loads == [8, 8, 8]
    assert divide([2], loads) == [0]
    assert divide([1], loads) == [1]
