import dataclasses

import numpy as np
import pytest
import torch
from small_birds import SIDE, TEST_VOICE

from s2igan.corpora.builtin.bird_drawing import ATTRIBUTES
from s2igan.errors import UserError
from s2igan.evaluation import generated
from s2igan.evaluation.attributes import AttributeClassifier, AttributeNet, ClassifierConfig
from s2igan.evaluation.drawings import drawing_with
from s2igan.evaluation.evaluation_split import Subject
from s2igan.evaluation.features import as_images
from s2igan.evaluation.generated import (
    Fakes,
    Features,
    attribute_group,
    changed_group,
    distance_group,
    draw_pictures,
    fake_recall_group,
    metric_encoder,
    paper_map_group,
)
from s2igan.pipeline import to_pixels


@pytest.fixture(scope="module")
def subject(bird_store) -> Subject:
    return Subject.of(bird_store, "test")


@pytest.fixture(scope="module")
def encoder():
    return metric_encoder(torch.device("cpu"))


def real_pictures(store, captions: np.ndarray) -> np.ndarray:
    """The pictures that a perfect generator would draw: those that the captions describe."""
    return to_pixels(as_images(store.images[store.image_index[captions]], SIDE))


class Judge(AttributeClassifier):
    """Recognises the pictures of the store, and says so; of others it sees the first value of everything."""

    def __init__(self, store) -> None:
        config = ClassifierConfig(image_size=16, width=2)
        super().__init__(AttributeNet(config, [len(v) for v in ATTRIBUTES.values()]), ATTRIBUTES, config, {})
        self.record = {"held_out_accuracy": dict.fromkeys(ATTRIBUTES, 1.0)}
        crops = to_pixels(as_images(store.images[:], SIDE))
        self.known = {crop.tobytes(): store.image_attributes(i) for i, crop in enumerate(crops)}

    def predict(self, images, batch_size=128):
        first = {name: values[0] for name, values in ATTRIBUTES.items()}
        facts = [self.known.get(picture.tobytes(), first) for picture in to_pixels(images)]
        return self.codes(facts)


def test_a_perfect_generator_reaches_the_ceiling(bird_store, subject):
    judge = Judge(bird_store)
    captions = subject.utterances
    perfect = attribute_group(judge, subject, Fakes(captions, 1, real_pictures(bird_store, captions), 0))
    assert {score.value for score in perfect.scores} == {1.0}
    assert {score.ceiling for score in perfect.scores} == {1.0}
    blank = attribute_group(judge, subject, Fakes(captions, 1, np.zeros((len(captions), SIDE, SIDE, 3), np.uint8), 0))
    assert all(score.value < 0.7 for score in blank.scores if score.key == "attributes/mean")
    by_key = {score.key: score for score in blank.scores}
    for score in blank.scores[1:]:
        # Pictures that are all alike score the same however they are dealt out.
        assert score.value == pytest.approx(score.protocol["shuffled"])
        assert score.chance == 1 / len(ATTRIBUTES[score.key.partition("/")[2]])
    mentioned = sum("belly_colour" in bird_store.mentions(int(u)) for u in captions)
    assert by_key["attributes/belly_colour"].protocol["n"] == mentioned
    assert by_key["attributes/mean"].value == pytest.approx(np.mean([score.value for score in blank.scores[1:]]))


def test_several_images_of_a_caption_are_asked_for_that_caption(bird_store, subject):
    captions = subject.utterances[::-1].copy()
    pictures = np.repeat(real_pictures(bird_store, captions), 3, axis=0)
    group = attribute_group(Judge(bird_store), subject, Fakes(captions, 3, pictures, 0))
    assert {score.value for score in group.scores} == {1.0}
    assert group.scores[0].protocol["images_per_caption"] == 3


def test_pictures_follow_seed_and_embedding(model):
    embeddings = torch.nn.functional.normalize(torch.randn(70, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    pictures = draw_pictures(model, embeddings, seed=1)
    assert pictures.shape == (70, SIDE, SIDE, 3)
    np.testing.assert_array_equal(pictures, draw_pictures(model, embeddings, seed=1))
    assert not (pictures == draw_pictures(model, embeddings, seed=2)).all(axis=(1, 2, 3)).any()
    same = draw_pictures(model, embeddings[:1].expand(3, -1), seed=1)
    assert not (same[0] == same[1]).all()


def test_every_candidate_of_every_picture_has_noise_of_its_own(model, monkeypatch):
    """More pictures than one turn takes: none draws the noise of another, and the record says among how many."""
    given = []

    def draw(embeddings, z, eps):
        assert len(z) == len(eps) == 3 * len(embeddings)
        given.append(z)
        return [np.zeros((len(embeddings), SIDE, SIDE, 3), np.uint8)]

    monkeypatch.setattr(model, "candidates", 3)
    monkeypatch.setattr(model, "draw", draw)
    pictures = draw_pictures(model, torch.randn(70, 16), seed=1)
    assert len(pictures) == 70
    assert len(torch.unique(torch.cat(given), dim=0)) == 210


def test_the_record_says_among_how_many_each_picture_was_chosen(model, bird_store, subject, quiet, monkeypatch):
    monkeypatch.setattr(model, "candidates", 2)
    monkeypatch.setattr(model, "draw", lambda heard, z, eps: [np.zeros((len(heard), SIDE, SIDE, 3), np.uint8)])
    fakes = Fakes.draw(model, bird_store, subject.utterances[:3], 2, seed=0, console=quiet)
    assert fakes.protocol["chosen_among"] == 2


def test_figure_3_speaks_with_a_voice_of_the_split(tmp_path, model, bird_store, subject, quiet):
    drawing = drawing_with(ATTRIBUTES)
    group = changed_group(model, Judge(bird_store), drawing, subject, tmp_path, seed=0, console=quiet)
    assert [score.key for score in group.scores] == [f"figure3/{part}_colour" for part in ("belly", "wing", "head")]
    for score in group.scores:
        assert score.chance == 0.1
        # The judge knows none of these pictures and calls each of them red, which one sentence in ten says.
        assert score.value == pytest.approx(0.1)
        assert score.protocol["voice"].startswith(TEST_VOICE)
    assert len(list(tmp_path.glob("*.png"))) == 40
    assert len(list(tmp_path.glob("*.wav"))) == 10


def test_figure_3_is_left_out_where_nobody_can_speak(tmp_path, model, bird_store, subject, quiet, monkeypatch):
    def fail(voice: str) -> None:
        raise UserError("no engine")

    monkeypatch.setattr(generated, "parse_voice", fail)
    drawing = drawing_with(ATTRIBUTES)
    assert changed_group(model, Judge(bird_store), drawing, subject, tmp_path, seed=0, console=quiet) is None


def test_the_papers_map_of_perfect_fakes_and_of_noise(bird_store, subject, model, encoder, quiet, monkeypatch):
    rng = np.random.default_rng(0)
    pictures = {
        "perfect": lambda captions: real_pictures(bird_store, captions),
        "noise": lambda captions: rng.integers(0, 256, (len(captions), SIDE, SIDE, 3), dtype=np.uint8),
    }
    values = {}
    for kind, draw in pictures.items():

        def fake_draw(model, store, captions, per_caption, *, seed, console, draw=draw):
            return Fakes(captions, per_caption, draw(captions), seed)

        monkeypatch.setattr(Fakes, "draw", fake_draw)
        fakes = fake_draw(model, bird_store, subject.utterances, 1, seed=0, console=quiet)
        features = Features.of(encoder, subject, fakes, console=quiet)
        group = paper_map_group(model, encoder, subject, features, seed=0, console=quiet)
        (values[kind],) = group.scores
    assert values["perfect"].value > 0.8  # the query's own picture is in the gallery
    assert values["perfect"].value > values["noise"].value + 0.2
    assert values["noise"].ceiling > values["noise"].value
    protocol = values["noise"].protocol
    assert (protocol["queries"], protocol["gallery"]) == (6, 12)
    assert values["noise"].chance == pytest.approx(values["perfect"].chance)


def test_fake_recall_of_perfect_fakes(bird_store, subject, model, encoder, quiet):
    fakes = Fakes(subject.utterances, 1, real_pictures(bird_store, subject.utterances), 0)
    features = Features.of(encoder, subject, fakes, console=quiet)
    group = fake_recall_group(model, encoder, subject, fakes, features, seed=0, console=quiet)
    assert [score.value for score in group.scores] == [1.0] * 4
    # Nine images with two fakes each: the first of eighteen is one's own with 2/18.
    assert group.scores[0].chance == pytest.approx(2 / 18)
    turned = dataclasses.replace(features, generated=np.roll(features.generated, 2, axis=0))
    group = fake_recall_group(model, encoder, subject, fakes, turned, seed=0, console=quiet)
    assert group.scores[0].value < 0.5
    assert group.scores[0].protocol["query_list"] is None


def test_distances_of_real_pictures_are_nothing(bird_store, subject, encoder, quiet):
    captions = subject.utterances[::2]
    same = Fakes(captions, 1, real_pictures(bird_store, captions), 0)
    noise = np.random.default_rng(0).integers(0, 256, same.pictures.shape, dtype=np.uint8)
    distances = {}
    for kind, fakes in (("same", same), ("noise", Fakes(captions, 1, noise, 0))):
        features = Features.of(encoder, subject, fakes, console=quiet)
        group = distance_group(encoder, subject, fakes, features, seed=0, console=quiet)
        distances[kind] = {score.key: score for score in group.scores}
    assert distances["same"]["distances/fid"].value == pytest.approx(0.0, abs=1e-2)
    for key in ("distances/fid", "distances/kid"):
        score = distances["noise"][key]
        assert score.value > score.ceiling > distances["same"][key].value
        assert score.unit == "distance"
        assert score.chance is None
        assert "Inception" in score.protocol["comparable"]
    assert distances["noise"]["distances/fid"].protocol["training_images"] == 6
