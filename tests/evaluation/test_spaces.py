"""The extractors: what they read, whose weights they have, and what they refuse."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch_fidelity import feature_extractor_inceptionv3 as published
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from s2igan.checkpoint import file_digest
from s2igan.errors import UserError
from s2igan.evaluation import spaces
from s2igan.evaluation.extractors import Extraction
from s2igan.evaluation.spaces import Lite, fid_inception, lite, register
from s2igan.models.blocks import seeded
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def inception_state():
    """Random weights of FID's network."""

    class Untrained(published.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_, **__):
            pass

    with pytest.MonkeyPatch.context() as patch, seeded(0):
        patch.setattr(published, "load_state_dict_from_url", lambda *_, **__: {})
        return Untrained("inception-v3-compat", ["2048"]).state_dict()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("rows", ["lite0", "lite2"])
def test_an_efficientnet_gives_the_features_of_the_image_encoder(rows, pictures):
    backbone = f"efficientnet_{rows}"
    encoder = ImageEncoder(ImageEncoderConfig(backbone, input_size=128)).eval()
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        expected = encoder.features(images).numpy()
    found = lite(rows, CPU)(pictures)
    np.testing.assert_allclose(found[rows], expected, rtol=1e-3, atol=1e-4)
    assert ("lite2_logits" in found) is (rows == "lite2")


def test_the_logits_are_those_of_the_published_classifier(pictures):
    """Of ImageNet."""
    network = Lite("s2igan-lite2", ["1280", "logits"])
    planes = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    features, logits = network(planes)
    expected = features @ network.backbone.classifier.weight.T + network.backbone.classifier.bias
    torch.testing.assert_close(logits, expected)
    assert logits.shape == (3, 1000)


def test_batches_and_order_make_no_difference(pictures, monkeypatch):
    extraction = Extraction([lite("lite0", CPU)])
    whole = extraction.of([pictures])["lite0"]
    monkeypatch.setattr("s2igan.evaluation.extractors.BATCH", 2)
    np.testing.assert_allclose(extraction.of([pictures])["lite0"], whole, rtol=1e-3, atol=1e-4)
    backwards = extraction.of([pictures[2:], pictures[1::-1]])["lite0"]
    np.testing.assert_allclose(backwards[[2, 1, 0]], whole, rtol=1e-3, atol=1e-4)


def test_they_are_in_torch_fidelitys_registry():
    register()
    register()
    assert FEATURE_EXTRACTORS_REGISTRY["s2igan-lite2"] is Lite


def test_the_fid_inception_is_known_by_its_digest(inception_state, tmp_path, pictures, monkeypatch):
    torch.save(inception_state, tmp_path / "a.pth")
    save_file(inception_state, tmp_path / "b.safetensors")
    found = [fid_inception(tmp_path / name, CPU) for name in ("a.pth", "b.safetensors")]
    assert [extractor.facts["sha256"] for extractor in found] == [
        file_digest(tmp_path / name) for name in ("a.pth", "b.safetensors")
    ]
    assert all("not the published ones" in extractor.facts["extractor"] for extractor in found)
    rows = found[0](pictures[:1])
    assert {name: values.shape for name, values in rows.items()} == {
        "inception": (1, 2048),
        "inception_logits": (1, 1008),
    }
    monkeypatch.setattr(spaces, "INCEPTION_SHA256", file_digest(tmp_path / "a.pth")[:8])
    assert "not the published" not in fid_inception(tmp_path / "a.pth", CPU).facts["extractor"]


def test_other_files_are_refused(tmp_path, inception_state):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb()))
    torch.save({"fc.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("absent.pth", "no such file"),
        ("bomb.pth", "cannot be read as weights"),
        ("other.pth", "does not hold the Inception-v3 of FID, which is not torchvision's"),
        ("list.pth", "holds no weights by name"),
    ):
        with pytest.raises(UserError, match=f"--fid-weights .*{message}"):
            fid_inception(tmp_path / name, CPU)


def test_the_download_is_checked(monkeypatch, tmp_path):
    asked = []

    def download(url, path, hash_prefix, progress):
        asked.append((url, hash_prefix))
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(UserError, match=r"could not be downloaded \(no route\); fetch https.* elsewhere"):
        fid_inception("download", CPU)
    assert asked == [(published.URL_INCEPTION_V3, "6726825d")]
