"""A GPU that is not there: tensors that claim another device than the CPU and compute on it.

Its device is called "meta", since PyTorch's autograd asks a driver for any other. Within `AbsentGpu` an operation on
tensors of both devices raises, as on a GPU. Unless it may wait, so does all that makes the program wait for a GPU: a
value that is read back, a copy that is not `non_blocking`, an index whose number of rows depends on values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

ABSENT = torch.device("meta")
CPU = torch.device("cpu")
aten = torch.ops.aten
WAITS = {aten._local_scalar_dense.default, aten.nonzero.default, aten.masked_select.default, aten.equal.default}
"""Operations whose result the program reads, or whose result's size follows from values."""
LENGTHS = {
    aten._pack_padded_sequence.default: 1,
    aten._pack_padded_sequence_backward.default: 2,
    aten._pad_packed_sequence.default: 1,
}
"""Operations of which one argument, the lengths of sequences, lies on the CPU with a GPU as well."""
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


class Absent(Tensor):
    """A tensor of the absent GPU; its values lie in `inner`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Absent:
        made: Absent = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=ABSENT,
        )
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Absent({self.inner})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {}, may_wait=True)


class AbsentGpu(TorchDispatchMode):
    """Inside, tensors that are made on the absent GPU lie there; see the module."""

    def __init__(self, *, may_wait: bool) -> None:
        super().__init__()
        self.may_wait = may_wait

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {}, self.may_wait)


def run(func: Any, args: Any, kwargs: dict[str, Any], may_wait: bool) -> Any:
    """An operation, by the CPU; its results lie where they would."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    absent = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, Absent)}
    to = kwargs.get("device")
    there = torch.device(to) == ABSENT if to is not None else bool(absent)
    check(func, args, kwargs, tensors, there, may_wait)

    def plain(x: Any) -> Any:
        return x.inner if isinstance(x, Absent) else CPU if isinstance(x, torch.device) else x

    def placed(x: Any) -> Any:
        if not (there and isinstance(x, Tensor)):
            return x
        return absent[id(x)] if id(x) in absent else Absent(x)

    out = func(*tree_map(plain, args), **tree_map(plain, kwargs))
    if func is aten.copy_.default:
        return args[0]
    if func in (aten._pack_padded_sequence.default, aten._pad_packed_sequence.default):
        return placed(out[0]), out[1]  # how many rows or frames there are stays on the CPU
    return tree_map(placed, out)


def check(func: Any, args: Any, kwargs: dict[str, Any], tensors: list[Tensor], there: bool, may_wait: bool) -> None:
    """Raises where a GPU would not take the operation, or would make the program wait and it must not."""
    absent = [tensor for tensor in tensors if isinstance(tensor, Absent)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Absent)]
    if func in COPIES:
        blocking = not (kwargs.get("non_blocking") or args[2:3] == (True,))
        crosses = bool(absent) != there if func is aten._to_copy.default else bool(absent and here)
        if crosses and (blocking or not there) and not may_wait:
            raise AssertionError(f"{func} waits for the copy of a tensor of {tuple(tensors[-1].shape)}")
        return
    if func in LENGTHS:
        if isinstance(args[LENGTHS[func]], Absent):
            raise AssertionError(f"{func} takes lengths from the CPU")
        return
    if absent and any(tensor.dim() for tensor in here):
        raise AssertionError(f"{func} takes tensors of both devices: {[tuple(tensor.shape) for tensor in tensors]}")
    if not absent or may_wait:
        return
    if func in WAITS:
        raise AssertionError(f"{func} reads values back")
    if func in INDEXING and any(
        isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) for part in tree_leaves(args[1])
    ):
        raise AssertionError(f"{func} counts the rows of a mask")
