"""What `s2igan export` writes: one file a graph, plain ONNX, sizes that are free, and nothing else."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from s2igan import SpeechToImage, UserError, onnx_export
from s2igan.models.latent_flow import LatentFlow
from s2igan.models.recurrent import over_utterances
from s2igan.onnx_export import OPSET, export_onnx
from s2igan_edge import SpeechToImage as Edge


def test_every_graph_is_one_file_of_plain_onnx(exported):
    config = json.loads((exported.onnx / "config.json").read_text())
    assert {path.name for path in exported.onnx.iterdir()} == {"config.json", *config["files"]}
    for name in config["files"]:
        graph = onnx.load(exported.onnx / name, load_external_data=False)
        onnx.checker.check_model(graph, full_check=True)
        assert {node.domain for node in graph.graph.node} == {""}
        assert {opset.version for opset in graph.opset_import if opset.domain == ""} == {OPSET}
        assert not [tensor.name for tensor in graph.graph.initializer if tensor.external_data]
        for value in graph.graph.input:
            assert value.type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, True), (2, True), (2, False)])
def test_the_recurrent_network_reads_each_utterance_to_its_end(kind, layers, bidirectional, tmp_path):
    torch.manual_seed(0)
    rnn = kind(5, 4, layers, batch_first=True, bidirectional=bidirectional)
    onnx_export._write_recurrence(rnn, tmp_path / "recurrence.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "recurrence.onnx", providers=["CPUExecutionProvider"])
    x, lengths = torch.randn(3, 11, 5), torch.tensor([4, 11, 7])
    with torch.no_grad():
        expected = over_utterances(rnn, x, lengths).numpy()
    (found,) = session.run(None, {"steps": x.numpy(), "lengths": lengths.int().numpy()})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_rounded_weights(exported, tmp_path, monkeypatch):
    """Of the velocity network alone; what is drawn stays near."""
    model = SpeechToImage.load(exported.torch, device="cpu")
    traced = {path.stem: path.read_bytes() for path in exported.onnx.glob("*.onnx")}
    monkeypatch.setattr(onnx_export, "_write", lambda graph, path: path.write_bytes(traced[graph.name]))
    if not isinstance(model.generator, LatentFlow):
        with pytest.raises(UserError, match="--int8"):
            export_onnx(model, tmp_path / "int8", int8=True)
        return
    rounded = export_onnx(model, tmp_path / "int8", int8=True)
    config = json.loads((rounded / "config.json").read_text())
    assert config["weights"] == "int8"
    before = json.loads((exported.onnx / "config.json").read_text())["files"]
    assert [name for name in before if before[name] != config["files"][name]] == ["velocity.onnx"]
    kinds = {tensor.data_type for tensor in onnx.load(rounded / "velocity.onnx").graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    recording = ((0.1 * np.random.default_rng(0).standard_normal(30_000)).astype(np.float32), 22_050)
    plain, coarse = (np.asarray(Edge.from_directory(of)(recording, 1)[0], int) for of in (exported.onnx, rounded))
    assert 0 < np.abs(plain - coarse).mean() < 5


def test_the_folder_is_the_models_own(exported, tmp_path):
    model = SpeechToImage.load(exported.torch, device="cpu")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"notes\.txt is here already"):
        export_onnx(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_the_extra(exported, tmp_path, monkeypatch):
    model = SpeechToImage.load(exported.torch, device="cpu")
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 's2igan\[onnx\]'"):
        export_onnx(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
