import json

import pytest
from rich.console import Console

from s2igan.evaluation.scores import Group, Score, informative, score_table


def test_a_record_holds_everything_and_is_json():
    score = Score("sen/map", "mAP", 0.5, {"split": "test"}, std=0.1, chance=0.1, ceiling=0.8, ceiling_name="oracle")
    record = json.loads(json.dumps(score.record()))
    assert record == {
        "key": "sen/map",
        "name": "mAP",
        "group": "sen",
        "value": 0.5,
        "std": 0.1,
        "interval": None,
        "normalised": None,
        "normalised_interval": None,
        "chance": 0.1,
        "ceiling": 0.8,
        "ceiling_name": "oracle",
        "unit": "fraction",
        "better": "higher",
        "headline": False,
        "protocol": {"split": "test"},
    }


def test_the_table_shows_value_chance_ceiling_and_their_ratio():
    fraction = Score("a/x", "found", 0.4, {}, std=0.05, chance=0.1, ceiling=0.8, ceiling_name="oracle")
    distance = Score("a/y", "apart", 12.5, {}, ceiling=3.25, unit="distance", better="lower")
    console = Console(width=120, record=True, file=None, quiet=False, no_color=True)
    with console.capture() as capture:
        console.print(score_table(Group("a", "Title", "How it was measured.", [fraction, distance])))
    text = capture.get()
    for part in (
        "Title",
        "How it was measured.",
        "oracle",
        "40.0 %",
        "± 5.0 %",
        "10.0 %",
        "80.0 %",
        "50 %",
        "12.5",
        "3.25",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    ("chances", "kept", "headline"),
    [
        ({1: 0.01, 5: 0.05, 10: 0.1}, [1, 5, 10], [10]),
        ({1: 0.1, 5: 0.5, 10: 1.0}, [1, 5], [5]),
        ({1: 0.2, 5: 0.9, 10: 1.0}, [1, 5], [1]),
        ({1: 1.0, 5: 1.0, 10: 1.0}, [1], []),
    ],
)
def test_what_guessing_reaches_in_full_is_no_score_and_no_headline(chances, kept, headline):
    """Ten images, say: a Recall@10 of 100 % says nothing."""
    recalls = [
        Score(f"a/recall@{k}/up", f"Recall@{k}", 1.0, {}, chance=chance, headline=k == 10)
        for k, chance in chances.items()
    ]
    others = [
        Score("a/map", "mAP", 1.0, {}, chance=chances[1], headline=True),
        Score("a/fid", "FID", 1.0, {}, unit="distance"),
    ]
    found = informative(Group("a", "Title", "How.", [*recalls, *others]))
    assert [score.key for score in found.scores] == [f"a/recall@{k}/up" for k in kept] + ["a/map", "a/fid"]
    telling_map = ["a/map"] if chances[1] < 1 else []
    assert [score.key for score in found.scores if score.headline] == [
        f"a/recall@{k}/up" for k in headline
    ] + telling_map
