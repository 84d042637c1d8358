"""Words for people."""

from s2igan.text_utils import counted


def test_one_and_many():
    assert counted(1, "picture") == "1 picture"
    assert counted(0, "picture") == "0 pictures"
    assert counted(1200, "utterance") == "1,200 utterances"
    assert (counted(1, "class"), counted(2, "class")) == ("1 class", "2 classes")
