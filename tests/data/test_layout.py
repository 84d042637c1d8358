"""The layout of a store."""

from s2igan.data.layout import stored_size


def test_sizes_keep_room_for_crops() -> None:
    assert [stored_size(size) for size in (16, 32, 64, 128, 256)] == [19, 38, 76, 152, 304]
