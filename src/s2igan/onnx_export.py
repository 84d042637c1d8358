"""A trained model as ONNX graphs and a config.json, for `s2igan-edge`, which needs no PyTorch (docs/edge.md).

The graphs hold what has weights: docs/edge.md lists them with their inputs and outputs. What is left is loops and
cutting, which `s2igan-edge` does in numpy: the windows of the recurrent network, Euler's method, guidance. Batch and
length are free in every graph, and noise is an input.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from s2igan import __version__, audio
from s2igan.checkpoint import file_digest, put_in_place
from s2igan.errors import UserError
from s2igan.files import disk_errors, temporary_path
from s2igan.models.autoencoder import Autoencoder
from s2igan.models.generator import Generator
from s2igan.models.latent_flow import LatentFlow
from s2igan.models.pretrained_autoencoder import PretrainedAutoencoder
from s2igan.models.speech_encoder import KERNEL, OVERLAP_FRAMES, WINDOW_FRAMES, SpeechEncoder
from s2igan.pipeline import SpeechToImage

FORMAT = 1
"""Of config.json and the graphs' inputs and outputs; `s2igan-edge` reads this one."""
OPSET = 20
"""Of the graphs: the first with GELU by tanh."""
CONFIG = "config.json"
FILES = {CONFIG} | {
    f"{graph}.onnx" for graph in ("convolutions", "recurrence", "pooling", "generator", "words", "velocity", "decoder")
}
"""All that an exported model may consist of."""
GATES = {"GRU": (1, 0, 2), "LSTM": (0, 3, 1, 2)}
"""Where those of ONNX stand among PyTorch's."""
EXTRA = "onnx"
EXAMPLE_BATCH, EXAMPLE_FRAMES = 3, 331
"""Of the inputs that the graphs are traced with, as are others of free size."""


@dataclass(frozen=True)
class Graph:
    """A network to be traced."""

    name: str
    network: nn.Module
    inputs: dict[str, Tensor]
    """Examples."""
    free: dict[str, dict[int, str]]
    """Dimensions of each input whose size is free, by the names that they get."""
    outputs: tuple[str, ...]


class Convolutions(nn.Module):
    """The speech encoder's convolutions, time first."""

    def __init__(self, encoder: SpeechEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, mel: Float[Tensor, "batch frames mels"]) -> Float[Tensor, "batch fewer channels"]:
        return self.encoder.convolve(mel).transpose(1, 2)


class Pooling(nn.Module):
    """What follows the speech encoder's recurrent network."""

    def __init__(self, encoder: SpeechEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(
        self, frames: Float[Tensor, "batch fewer embedding"], lengths: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch embedding"]:
        return self.encoder.pool(frames, lengths)


class Drawing(nn.Module):
    """The paper's generator, all scales."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.generator = generator

    def forward(
        self,
        embedding: Float[Tensor, "batch embedding"],
        z: Float[Tensor, "batch z"],
        eps: Float[Tensor, "batch condition"],
    ) -> tuple[Float[Tensor, "batch 3 _ _"], ...]:
        images: tuple[Tensor, ...] = self.generator(embedding, z, eps).images
        return images


class Decoder(nn.Module):
    """The autoencoder's way back to pictures."""

    def __init__(self, autoencoder: Autoencoder | PretrainedAutoencoder) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, latents: Float[Tensor, "batch channels 8 8"]) -> Float[Tensor, "batch 3 side side"]:
        return self.autoencoder.decode(latents)


def export_onnx(model: SpeechToImage, directory: Path, *, int8: bool = False) -> Path:
    """Writes a model's graphs, one file each, and config.json, which says all that `s2igan-edge` needs to know.

    Args:
        int8: weights of the velocity network's products of matrices are 8-bit integers, and their inputs are rounded
            to 8 bits as they come; the other networks stay as they are.

    Raises:
        UserError: the extra `onnx` is not installed, the model does not hear speech or has no velocity network to
            round, other files are in the directory, or it cannot be written.
    """
    if missing := [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise UserError(f"{missing[0]} is not installed, which writes ONNX graphs: pip install 's2igan[{EXTRA}]'.")
    encoder, generator = model.speech_encoder, model.generator
    model.check_hears()
    if not isinstance(encoder, SpeechEncoder):
        raise UserError(
            f"a {type(encoder).__name__} is not exported; choose a model whose speech encoder is the paper's."
        )
    if int8 and not isinstance(generator, LatentFlow):
        raise UserError(f"this model draws by {model.method}, of which nothing is rounded; leave out --int8.")
    if directory.is_dir() and (others := {path.name for path in directory.iterdir()} - FILES):
        raise UserError(f"{directory}: {sorted(others)[0]} is here already; choose a folder of the model's own.")
    drawing = _flow(generator, encoder) if isinstance(generator, LatentFlow) else _rdg(generator)
    with _written_whole(directory) as folder:
        _write_recurrence(encoder.rnn, folder / "recurrence.onnx")
        for graph in (*_speech_encoder(encoder), *drawing):
            _write(graph, folder / f"{graph.name}.onnx")
        if int8:
            _round(folder / "velocity.onnx")
        config = {
            "format": FORMAT,
            "s2igan": __version__,
            "recipe": "unknown" if model.exported is None else model.exported.recipe,
            "method": model.method,
            "weights": "int8" if int8 else "float32",
            "audio": {**audio.LOG_MEL, **asdict(model.front_end)},
            "speech_encoder": _encoder_sizes(encoder),
            "drawing": _flow_sizes(generator) if isinstance(generator, LatentFlow) else _rdg_sizes(generator),
            "files": _described(folder),
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    return directory


# ------------------------------------------------------------------------------------------------------------ networks


def _speech_encoder(encoder: SpeechEncoder) -> list[Graph]:
    config = encoder.config
    mel = torch.zeros(EXAMPLE_BATCH, EXAMPLE_FRAMES, config.n_mels)
    frames = torch.zeros(EXAMPLE_BATCH, EXAMPLE_FRAMES, config.embedding)
    lengths = torch.full((EXAMPLE_BATCH,), EXAMPLE_FRAMES)
    batch, free = {0: "batch"}, {0: "batch", 1: "frames"}
    return [
        Graph("convolutions", Convolutions(encoder), {"mel": mel}, {"mel": free}, ("steps",)),
        Graph(
            "pooling",
            Pooling(encoder),
            {"frames": frames, "lengths": lengths},
            {"frames": free, "lengths": batch},
            ("embedding",),
        ),
    ]


def _rdg(generator: Generator) -> list[Graph]:
    config = generator.config
    sizes = {"embedding": config.embedding, "z": config.z, "eps": config.condition}
    inputs = {name: torch.zeros(EXAMPLE_BATCH, size) for name, size in sizes.items()}
    outputs = tuple(f"image_{side}" for side in config.resolutions)
    return [Graph("generator", Drawing(generator), inputs, {name: {0: "batch"} for name in sizes}, outputs)]


def _flow(flow: LatentFlow, encoder: SpeechEncoder) -> list[Graph]:
    config = flow.config
    frames = torch.zeros(EXAMPLE_BATCH, EXAMPLE_FRAMES, encoder.config.embedding)
    latents = torch.zeros(EXAMPLE_BATCH, *config.autoencoder.latent_shape)
    condition = {
        "words": torch.zeros(EXAMPLE_BATCH, EXAMPLE_FRAMES, config.matchmap.words),
        "inside": torch.ones(EXAMPLE_BATCH, EXAMPLE_FRAMES, dtype=torch.bool),
    }
    batch, free = {0: "batch"}, {0: "batch", 1: "frames"}
    return [
        Graph("words", flow.words, {"frames": frames}, {"frames": free}, ("words",)),
        Graph(
            "velocity",
            flow.network,
            {"x": latents, "t": torch.full((EXAMPLE_BATCH,), 0.5), **condition},
            {"x": batch, "t": batch, "words": free, "inside": free},
            ("velocity",),
        ),
        Graph("decoder", Decoder(flow.autoencoder), {"latents": latents}, {"latents": batch}, ("image",)),
    ]


def _write(graph: Graph, path: Path) -> None:
    """Traces a network and writes its graph, with what is constant in it computed."""
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            copy.deepcopy(graph.network).cpu(),
            kwargs=graph.inputs,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamic_shapes=graph.free,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    content = program.model_proto.SerializeToString()
    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _round(path: Path) -> None:
    """Rounds the weights of a graph's products of matrices to 8-bit integers, a scale for each column."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_name(f"{path.stem}-int8.onnx")
    with _quiet():
        quantize_dynamic(
            path,
            rounded,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # to 7 bits: processors without VNNI add pairs of products in 16 bits
        )
    rounded.replace(path)


def _write_recurrence(rnn: nn.GRU | nn.LSTM, path: Path) -> None:
    """Writes the recurrent network as ONNX has it: each utterance to its own length, both directions.

    It is put together here, since tracing makes a loop of fixed length of it.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    kind = "GRU" if isinstance(rnn, nn.GRU) else "LSTM"
    ends = ("", "_reverse")[: 1 + rnn.bidirectional]
    weights = {name: parameter.detach().cpu() for name, parameter in rnn.named_parameters()}

    def joined(layer: int, *names: str) -> Tensor:
        """Of each direction a row: the parts of these weights in the order of ONNX."""
        rows = []
        for end in ends:
            parts = [weights[f"{name}_l{layer}{end}"].chunk(len(GATES[kind])) for name in names]
            rows.append(torch.cat([of_name[gate] for of_name in parts for gate in GATES[kind]]))
        return torch.stack(rows)

    tensors = {"rows": torch.tensor([0, 0, -1])}
    nodes = [helper.make_node("Transpose", ["steps"], ["x0"], perm=[1, 0, 2])]
    attributes: dict[str, Any] = {"hidden_size": rnn.hidden_size}
    attributes["direction"] = "bidirectional" if rnn.bidirectional else "forward"
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    for layer in range(rnn.num_layers):
        names = [f"{part}{layer}" for part in ("input", "hidden", "bias")]
        tensors[names[0]] = joined(layer, "weight_ih")
        tensors[names[1]] = joined(layer, "weight_hh")
        tensors[names[2]] = joined(layer, "bias_ih", "bias_hh")
        nodes += [
            helper.make_node(kind, [f"x{layer}", *names, "lengths"], [f"both{layer}"], **attributes),
            helper.make_node("Transpose", [f"both{layer}"], [f"beside{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"beside{layer}", "rows"], [f"x{layer + 1}"]),
        ]
    nodes.append(helper.make_node("Transpose", [f"x{rnn.num_layers}"], ["frames"], perm=[1, 0, 2]))
    width = rnn.hidden_size * len(ends)
    graph = helper.make_graph(
        nodes,
        "recurrence",
        [
            helper.make_tensor_value_info("steps", TensorProto.FLOAT, ["batch", "fewer", rnn.input_size]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, ["batch", "fewer", width])],
        [numpy_helper.from_array(tensor.numpy(), name) for name, tensor in tensors.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
    checker.check_model(model, full_check=True)
    save(model, path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Inside, the exporter says nothing of its own doings."""
    loggers = [logging.getLogger(name) for name in ("", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


# ---------------------------------------------------------------------------------------------------------- config.json


def _encoder_sizes(encoder: SpeechEncoder) -> dict[str, Any]:
    config = encoder.config
    return {
        "embedding": config.embedding,
        "min_frames": config.min_frames,
        "convolutions": len(config.conv_channels),
        "kernel": KERNEL,
        "stride": config.conv_stride,
        "mask_padding": config.mask_padding,
        "window_frames": WINDOW_FRAMES,
        "overlap_frames": OVERLAP_FRAMES,
    }


def _rdg_sizes(generator: Generator) -> dict[str, Any]:
    config = generator.config
    return {"kind": "rdg", "resolutions": list(config.resolutions), "z": config.z, "condition": config.condition}


def _flow_sizes(flow: LatentFlow) -> dict[str, Any]:
    config = flow.config
    return {
        "kind": "latent_flow",
        "resolutions": list(config.resolutions),
        "latent_shape": list(config.autoencoder.latent_shape),
        "window": config.matchmap.window,
        "hop": config.matchmap.hop,
        "steps": config.steps,
        "guidance": config.guidance,
        "shift": config.shift,
    }


def _described(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in a folder."""
    return {path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)} for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def _written_whole(directory: Path) -> Iterator[Path]:
    """A folder that gets its name when the block ends, and vanishes when it fails."""
    temporary = temporary_path(directory)
    with disk_errors(directory):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            put_in_place(temporary, directory)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
