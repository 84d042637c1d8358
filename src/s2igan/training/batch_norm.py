"""Batch norm over the batch of all processes, and batch norm that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from s2igan.training.distributed import gather, sum_over_processes, world_size


class SynchronisedBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of the batch of all processes, on any device (PyTorch's own is for GPUs).

    Every process must hold as many values. Names in the state dict are those of `torch.nn.BatchNorm2d`.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same."""
        if not self.training or world_size() == 1:
            return super().forward(input)
        y, mean, var = _BatchNormOfAll.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                weight = self.momentum
                if weight is None:  # a plain average over the batches
                    assert self.num_batches_tracked is not None
                    weight = 1 / float(self.num_batches_tracked)
                n = input.numel() / input.shape[1] * world_size()
                self.running_mean.lerp_(mean, weight)
                self.running_var.lerp_(var * (n / (n - 1)), weight)
        return y


class _BatchNormOfAll(torch.autograd.Function):
    """Sums over a process's own values are PyTorch's own kernels for batch norm, several times faster than as plain
    operations: the statistics of a batch, and the gradients of weight and bias."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.ops.aten.batch_norm_update_stats(x, None, None, 0.0)  # mean and biased variance
        # Means of squares of means: of groups of one size, the total variance is the mean within plus that between.
        parts = gather(torch.stack(own)[None])
        mean = parts[:, 0].mean(dim=0)
        var = parts[:, 1].mean(dim=0) + (parts[:, 0] - mean).square().mean(dim=0)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps), mean, var

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        ones = torch.ones_like(mean) if weight is None else weight
        wanted = [False, True, True]
        _, along_weight, along_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, ones, mean, var, None, None, False, ctx.eps, wanted
        )
        grad_x = None
        if ctx.needs_input_grad[0]:
            n = x.numel() / x.shape[1] * world_size()
            mean_weight, mean_bias = sum_over_processes(torch.stack([along_weight, along_bias]).float()) / n
            scale = ones * torch.rsqrt(var + ctx.eps)
            # (grad - its mean - normalised x times its mean along x) * scale; a batch norm gives the last two
            grad_x = F.batch_norm(x, mean, var, -scale * mean_weight, -scale * mean_bias, training=False, eps=ctx.eps)
            grad_x.addcmul_(grad, scale.to(x.dtype).view([-1 if d == 1 else 1 for d in range(x.dim())]))
        learnt = weight is not None
        return grad_x, along_weight if learnt else None, along_bias if learnt else None, None


def synchronise(network: nn.Module) -> None:
    """With several processes, makes every batch norm inside a network a `SynchronisedBatchNorm` of the same tensors."""
    if world_size() == 1:
        return
    for parent in list(network.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, _BatchNorm) and not isinstance(norm, SynchronisedBatchNorm):
                new = SynchronisedBatchNorm(norm.num_features, norm.eps, norm.momentum, affine=False)
                new._parameters, new._buffers = norm._parameters, norm._buffers
                new.affine, new.track_running_stats = norm.affine, norm.track_running_stats
                setattr(parent, name, new.train(norm.training))


@contextmanager
def statistics_held(network: nn.Module) -> Iterator[None]:
    """Inside, batch norms in training use the batch's statistics and leave their running ones as they are."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, seen) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, seen
