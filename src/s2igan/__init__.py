"""Spoken descriptions to images, with no text in between: the S2IGAN method (Interspeech 2020).

`SpeechToImage` is imported when it is first used, so that `import s2igan` and `s2igan --help` do not wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2igan.pipeline import SpeechToImage

__all__ = ["SpeechToImage", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "SpeechToImage":
        from s2igan.pipeline import SpeechToImage

        return SpeechToImage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
