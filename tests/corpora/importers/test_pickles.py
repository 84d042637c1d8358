"""Pickles of plain data are read as any pickle reader would; everything else is refused before it acts."""

import contextlib
import os
import pickle
import pickletools
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s2igan.corpora.importers.pickles import read_pickle
from s2igan.errors import UserError
from sources import python_2

# What Python 2.7 and numpy 1 write with protocol 2 for [array([[1.5, -2.0]], float32)]; its strings are bytes.
PYTHON_2 = (
    b"\x80\x02]q\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K"
    b"\x01K\x02\x86cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    b"\x00tb\x89U\x08\x00\x00\xc0?\x00\x00\x00\xc0tba."
)


def write(path: Path, value: Any, protocol: int = 2) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values(tmp_path: Path, protocol: int) -> None:
    value = [["a/b", "é", ""], (1, -2.5, True, None, 10**30), {"x": [1]}, b"\x00\xff"]
    assert read_pickle(write(tmp_path / "x.pickle", value, protocol)) == value


@pytest.mark.parametrize("protocol", range(5))  # of 5 the arrays travel by a function that is not needed here
@pytest.mark.parametrize("kind", ["<f4", ">f4", "f8", "i8", "u1", "?", "f2"])
def test_arrays_of_numbers(tmp_path: Path, protocol: int, kind: str) -> None:
    values = [(np.arange(24).reshape(2, 3, 4) % 5).astype(kind), np.asfortranarray(np.eye(3)).astype(kind), np.zeros(0)]
    found = read_pickle(write(tmp_path / "x.pickle", values, protocol))
    for array, expected in zip(found, values, strict=True):
        assert type(array) is np.ndarray
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


def test_python_2(tmp_path: Path) -> None:
    [array] = read_pickle(write(tmp_path / "x.pickle", PYTHON_2))
    np.testing.assert_array_equal(array, np.array([[1.5, -2.0]], np.float32))
    names = b"(lp0\nS'002.Laysan_Albatross/Laysan_Albatross_0002_1027'\np1\naI7\na."  # protocol 0
    assert read_pickle(write(tmp_path / "y.pickle", names)) == ["002.Laysan_Albatross/Laysan_Albatross_0002_1027", 7]
    assert read_pickle(write(tmp_path / "z.pickle", b"\x80\x02U\x01\xe9.")) == "é"


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def attacks(mark: Path) -> dict[str, bytes]:
    command = f"touch {mark}"
    return {
        "os.system": pickle.dumps([Call(os.system, command)], 2),
        "eval": pickle.dumps(Call(eval, f"__import__('os').system({command!r})"), 2),
        "open": pickle.dumps(Call(open, str(mark), "w"), 4),
        "a getattr chain": f"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'{command}'\ntR.".encode(),
        "an old style instance": f"(S'{command}'\nios\nsystem\n.".encode(),
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
        "numpy's loader": pickle.dumps(Call(np.load, str(mark)), 2),
        "numpy's frombuffer": pickle.dumps(Call(np.frombuffer, b"1234"), 2),
        "an extension": b"\x80\x02\x82\x01.",
        "a persistent id": b"Pabc\n.",
        "an object array": pickle.dumps(np.array([[1], "a"], dtype=object), 2),
        "a record array": pickle.dumps(np.zeros(2, dtype=[("a", "f4"), ("b", "O")]), 2),
        "a state for a function": b"cnumpy.core.multiarray\n_reconstruct\n}S'x'\nI1\nsb.",
        "attributes for a function": b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nN}U\x06_call2K\x01s\x86b.",
        "a function itself": b"cnumpy.core.multiarray\n_reconstruct\n.",
        "a set": pickle.dumps({1, 2}, 4),
        "a complex number": pickle.dumps(1j, 2),
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_what_is_not_data_is_refused_and_does_nothing(tmp_path: Path, name: str) -> None:
    mark = tmp_path / "mark"
    content = attacks(mark)[name]
    path = write(tmp_path / "evil.pickle", content)
    with pytest.raises(
        UserError, match=r"evil\.pickle: (this pickle is not read, since it|not a readable pickle)"
    ) as it:
        read_pickle(path)
    assert "\n" not in str(it.value)
    assert not mark.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_the_attacks_are_attacks(tmp_path: Path) -> None:
    """Python's own reader does run them."""
    mark = tmp_path / "mark"
    for name in ("os.system", "eval", "a getattr chain", "an old style instance"):
        pickle.loads(attacks(mark)[name])
        assert mark.exists(), name
        mark.unlink()


def test_a_refusal_names_what_was_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "evil.pickle", attacks(tmp_path / "m")["os.system"])
    with pytest.raises(UserError, match=r"asks for (os|posix|nt)\.system; use only files of plain data"):
        read_pickle(path)


@pytest.mark.parametrize("size", range(0, len(PYTHON_2), 7))
def test_a_truncated_pickle_is_a_sentence(tmp_path: Path, size: int) -> None:
    with pytest.raises(UserError, match=r"x\.pickle: "):
        read_pickle(write(tmp_path / "x.pickle", PYTHON_2[:size]))


def test_damage_gives_data_or_a_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(PYTHON_2)
        for position in rng.integers(0, len(damaged), 3):
            damaged[position] = rng.integers(256)
        with contextlib.suppress(UserError):
            read_pickle(write(tmp_path / "x.pickle", bytes(damaged)))


def test_a_short_pickle_cannot_ask_for_all_memory(tmp_path: Path) -> None:
    """The memo of the unpickler in C is an array as long as its largest index."""
    limit = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, limit[1]))
    try:
        assert read_pickle(write(tmp_path / "x.pickle", b"\x80\x02]r\xff\xff\xff\x7f.")) == []
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


def test_an_array_whose_bytes_do_not_fill_its_shape(tmp_path: Path) -> None:
    for shape in (b"K\x01K\x03\x86", b"K\x01J\x00\x00\x00\x7f\x86", b"K\x01J\xff\xff\xff\xff\x86"):
        with pytest.raises(UserError):
            read_pickle(write(tmp_path / "x.pickle", PYTHON_2.replace(b"K\x01K\x02\x86", shape)))


def test_a_list_that_names_itself_a_million_times(tmp_path: Path) -> None:
    inner: Any = ["x"] * 1000
    for _ in range(3):
        inner = [inner] * 1000
    assert len(read_pickle(write(tmp_path / "x.pickle", inner))) == 1000
    with pytest.raises(UserError, match="lists more than 4 deep"):
        read_pickle(write(tmp_path / "x.pickle", [[[inner]]]))


def test_the_python_2_fixture_is_what_it_says() -> None:
    assert {opcode.name for opcode, _, _ in pickletools.genops(PYTHON_2)} >= {"SHORT_BINSTRING", "REDUCE", "BUILD"}
    assert pickletools.optimize(PYTHON_2) == python_2([np.array([[1.5, -2.0]])])  # what other tests write


def test_long_strings_of_python_2(tmp_path: Path) -> None:
    arrays = [np.arange(300, dtype="f4").reshape(3, 100) - number for number in range(2)]
    found = read_pickle(write(tmp_path / "x.pickle", python_2(["a/b", 7, 300, *arrays, np.stack(arrays)])))
    assert found[:3] == ["a/b", 7, 300]
    for array, expected in zip(found[3:], [*arrays, np.stack(arrays)], strict=True):
        np.testing.assert_array_equal(array, expected)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pickle: cannot be read"):
        read_pickle(tmp_path / "none.pickle")
