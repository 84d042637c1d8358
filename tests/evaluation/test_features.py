import numpy as np
import pytest
import torch

from s2igan.data.dataset import crop_and_flip
from s2igan.evaluation.features import image_features
from s2igan.models.blocks import seeded
from s2igan.models.image_encoder import ImageEncoder, ImageEncoderConfig


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    with seeded(0):
        config = ImageEncoderConfig(backbone="efficientnet_lite0", input_size=32, embedding=12)
        return ImageEncoder(config, pretrained=False).eval()


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 38, 38, 3), dtype=np.uint8)


def test_batches_make_no_difference(encoder, pictures, monkeypatch: pytest.MonkeyPatch):
    whole = image_features(encoder, pictures, crop=32)
    assert whole.shape == (5, 1280)
    monkeypatch.setattr("s2igan.evaluation.features.BATCH", 2)
    np.testing.assert_allclose(image_features(encoder, pictures, crop=32), whole, rtol=1e-4, atol=1e-5)


def test_the_crop_is_the_centre(encoder, pictures):
    by_hand = crop_and_flip(np.ascontiguousarray(pictures[:, 3:35, 3:35]), 32, None)
    with torch.no_grad():
        features = encoder.features(by_hand).numpy()
    np.testing.assert_allclose(image_features(encoder, pictures, crop=32), features, rtol=1e-4, atol=1e-5)


def test_project_gives_embeddings_of_unit_length(encoder, pictures):
    embeddings = image_features(encoder, pictures, crop=32, project=True)
    assert embeddings.shape == (5, 12)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)
