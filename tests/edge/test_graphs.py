"""A folder that is no model, or a damaged one, is refused in a sentence."""

import json
import shutil

import pytest

from s2igan_edge import SpeechToImage, UserError


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported.onnx, tmp_path / "model")


def refusal(directory):
    with pytest.raises(UserError) as raised:
        SpeechToImage.from_directory(directory)
    message = str(raised.value)
    assert message.startswith(str(directory))
    assert message.count("\n") == 0
    assert message.endswith(".")
    return message


def test_a_folder_that_is_not_there(tmp_path):
    assert "no such folder" in refusal(tmp_path / "gone")


def test_a_folder_without_a_model(tmp_path):
    assert "s2igan export" in refusal(tmp_path)


def test_a_model_that_needs_torch(exported):
    assert "describes no ONNX graphs" in refusal(exported.torch)


def test_a_file_is_missing(copy):
    (copy / "pooling.onnx").unlink()
    assert "pooling.onnx: is missing" in refusal(copy)


def test_a_file_is_torn(copy):
    path = copy / "recurrence.onnx"
    path.write_bytes(path.read_bytes()[:-7])
    assert "is torn" in refusal(copy)


def test_a_file_is_altered(copy):
    path = copy / "recurrence.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "is altered" in refusal(copy)


def test_the_config_is_torn(copy):
    path = copy / "config.json"
    path.write_bytes(path.read_bytes()[:100])
    assert "torn" in refusal(copy)


@pytest.mark.parametrize("change", [{"format": 2}, {"audio": {"sample_rate": 16_000}}])
def test_another_version(copy, change):
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "another version" in refusal(copy)
