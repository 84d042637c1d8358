"""The speech encoder's graphs and the loops between them, as `s2igan.models.speech_encoder` has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from s2igan_edge.graphs import Graphs

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class SpeechEncoder:
    """Padded log-mel spectrograms to embeddings, and to the words that latent flow attends to."""

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        sizes: dict[str, Any] = graphs.config["speech_encoder"]
        self.min_frames: int = sizes["min_frames"]
        self._kernel, self._stride, self._convolutions = sizes["kernel"], sizes["stride"], sizes["convolutions"]
        self._mask_padding: bool = sizes["mask_padding"]
        reduction = self._stride**self._convolutions
        self._window, self._overlap = sizes["window_frames"] // reduction, sizes["overlap_frames"] // reduction

    def steps(
        self, mels: Float[np.ndarray, "batch frames 40"], lengths: Int[np.ndarray, " batch"]
    ) -> tuple[Float[np.ndarray, "batch fewer channels"], Int[np.ndarray, " batch"]]:
        """The convolutions' output and each utterance's length in it."""
        for _ in range(self._convolutions):
            lengths = (lengths - self._kernel) // self._stride + 1
        (steps,) = self.graphs.run("convolutions", {"mel": mels})
        return steps[:, : lengths.max()], lengths

    def embeddings(
        self, steps: Float[np.ndarray, "batch steps channels"], lengths: Int[np.ndarray, " batch"]
    ) -> Float[np.ndarray, "batch embedding"]:
        """Embeddings of unit length. What is longer than the recurrent network reads at once is read in windows."""
        frames = self._recurrence(steps, lengths) if lengths.max() <= self._window else self._in_windows(steps, lengths)
        told = lengths if self._mask_padding else np.full_like(lengths, frames.shape[1])
        (embeddings,) = self.graphs.run("pooling", {"frames": frames, "lengths": told})
        return embeddings

    def words(
        self,
        steps: Float[np.ndarray, "batch steps channels"],
        lengths: Int[np.ndarray, " batch"],
        window: int,
        hop: int,
    ) -> tuple[Float[np.ndarray, "batch pairs words"], Int[np.ndarray, " batch"]]:
        """Word embeddings of pairs of steps, each of which knows a short window alone, and their number.

        Args:
            window: steps of the recurrent network in a window; silence (zeros) fills those at the ends.
            hop: steps from window to window, and steps in the middle of each that are kept.
        """
        batch, longest, channels = steps.shape
        windows, margin = -(-longest // hop), (window - hop) // 2
        padded = np.zeros((batch, windows * hop + window - hop, channels), np.float32)
        padded[:, margin : margin + longest] = np.where(_inside(lengths, longest), steps, 0)
        cut = np.lib.stride_tricks.sliding_window_view(padded, window, axis=1)[:, ::hop].swapaxes(2, 3)
        cut = np.ascontiguousarray(cut.reshape(batch * windows, window, channels))
        kept = self._recurrence(cut, np.full(len(cut), window))[:, margin : margin + hop]
        h = kept.reshape(batch, windows * hop, -1)
        h = np.where(_inside(lengths, h.shape[1]), h, 0)
        h = np.pad(h, ((0, 0), (0, h.shape[1] % 2), (0, 0)))
        sums = h[:, ::2] + h[:, 1::2]
        told = (lengths[:, None] - 2 * np.arange(sums.shape[1])).clip(1, 2).astype(np.float32)
        pairs = (lengths + 1) // 2
        (words,) = self.graphs.run("words", {"frames": (sums / told[:, :, None])[:, : pairs.max()]})
        return words, pairs

    def _recurrence(
        self, steps: Float[np.ndarray, "batch steps channels"], lengths: Int[np.ndarray, " batch"]
    ) -> Float[np.ndarray, "batch steps embedding"]:
        (frames,) = self.graphs.run("recurrence", {"steps": steps, "lengths": lengths.astype(np.int32)})
        return frames

    def _in_windows(
        self, steps: Float[np.ndarray, "batch steps channels"], lengths: Int[np.ndarray, " batch"]
    ) -> Float[np.ndarray, "batch steps embedding"]:
        """Overlapping windows; half of the overlap is the run-up of each, whose output is not used."""
        pieces: list[tuple[int, int, int]] = []  # row, first step, steps
        for row, length in enumerate(lengths.tolist()):
            start = 0
            while start == 0 or start + self._overlap < length:
                pieces.append((row, start, min(self._window, length - start)))
                start += self._window - self._overlap
        width: int = self.graphs.config["speech_encoder"]["embedding"]
        out = np.zeros((*steps.shape[:2], width), np.float32)
        for first in range(0, len(pieces), len(steps)):  # as many at once as there are utterances
            some = pieces[first : first + len(steps)]
            sizes = np.array([size for _, _, size in some])
            cut = np.zeros((len(some), sizes.max(), steps.shape[2]), np.float32)
            for place, (row, start, size) in enumerate(some):
                cut[place, :size] = steps[row, start : start + size]
            for own, (row, start, size) in zip(self._recurrence(cut, sizes), some, strict=True):
                skip = self._overlap // 2 if start else 0
                out[row, start + skip : start + size] = own[skip:size]
        return out


def _inside(lengths: Int[np.ndarray, " batch"], longest: int) -> np.ndarray:
    """Whether a frame belongs to its utterance, (batch, longest, 1)."""
    return (np.arange(longest) < lengths[:, None])[:, :, None]
