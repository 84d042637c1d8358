"""Spoken descriptions to images without PyTorch: runs the models that `s2igan export` writes."""

from s2igan_edge.errors import UserError
from s2igan_edge.pipeline import Drawn, SpeechToImage

__all__ = ["Drawn", "SpeechToImage", "UserError", "__version__"]
__version__ = "0.2.0"
