"""Words without letters: recurring pieces of speech, and what they go with.

Boundaries may be at peaks in how fast the frames of the speech encoder change (prominence-based segmentation, as in
Pasad et al. 2023 and in PromSegClus of Kamper and van Niekerk 2024); the mean of a segment's frames stands for it, and
k-means puts segments together. Which of the peaks are boundaries follows from the clusters in turn: those that make
segments near to a cluster's middle (embedded segmental k-means, Kamper et al. 2017). A cluster that tells much about
the pictures, by mutual information, is a word for what they show. No text is read; where the words spoken are known,
they score what was found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.signal import find_peaks
from torch import Tensor
from torch.nn import functional

from s2igan.audio import HOP_LENGTH, SAMPLE_RATE
from s2igan.corpora.builtin.spoken_words import SpokenWord, WordTimes
from s2igan.data.dataset import pad_mels
from s2igan.data.store import Store
from s2igan.errors import UserError
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks
from s2igan.evaluation.features import image_features
from s2igan.evaluation.subject import Subject
from s2igan.evaluation.word_search import WordSearch
from s2igan.models.recurrent import inside
from s2igan.models.speech_encoder import KERNEL, SpeechEncoder

SHIFTS = 3
"""Times that an utterance is encoded, each a third of a frame later: of the encoder's frames of 90 ms that makes 30."""
BATCH = 32
WINDOW = 5
"""Steps of the recurrent network that what stands for a segment may know, 0.45 s: over whole utterances, the frames of
`head` tell which colour it has."""
TOLERANCE_SECONDS = 0.05
"""A found boundary is right within this distance of a true one."""
MOST_SECONDS, MOST_PIECES = 0.8, 5
"""How long a segment may be that is more than one piece between neighbouring peaks, and of how many."""
ROUNDS = 4
"""Of clustering and segmenting."""
DEFAULTS = WordSearch()
PERMUTATIONS = 50
"""Of the pictures, to see what chance tells."""


# -------------------------------------------------------------------------------------------------------------- frames


@dataclass(frozen=True)
class FrameTimes:
    """When the frames of an encoder are."""

    first_seconds: float
    step_seconds: float

    @classmethod
    def of(cls, encoder: SpeechEncoder) -> FrameTimes:
        stride, convolutions = encoder.config.conv_stride, len(encoder.config.conv_channels)
        seen = 1 + (KERNEL - 1) * sum(stride**i for i in range(convolutions))  # mel frames
        frame = HOP_LENGTH / SAMPLE_RATE
        return cls((seen - 1) / 2 * frame, stride**convolutions / SHIFTS * frame)

    def starts(self, frames: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
        """When segments that begin with these frames begin (seconds): half a step before their middle."""
        return np.where(frames == 0, 0.0, self.first_seconds + (frames - 0.5) * self.step_seconds)


@dataclass(frozen=True)
class FineFrames:
    """What the encoder makes of an utterance, every third of a frame, standardised over all utterances."""

    whole: Float[np.ndarray, "frames features"]
    """By its recurrent network over the utterance: where its output changes, one word ends and another begins."""
    local: Float[np.ndarray, "frames features"]
    """By the same network over the `WINDOW` steps around each frame."""


@torch.no_grad()
def fine_frames(encoder: SpeechEncoder, store: Store, utterances: Int[np.ndarray, " utterances"]) -> list[FineFrames]:
    """The frames of utterances.

    Raises:
        UserError: one is too short.
    """
    step = encoder.config.conv_stride ** len(encoder.config.conv_channels)
    device = next(encoder.parameters()).device
    shifts = [round(i * step / SHIFTS) for i in range(SHIFTS)]
    least = encoder.config.min_frames + shifts[-1]
    order = np.argsort(store.n_frames[utterances], kind="stable")
    whole, local = ([np.empty(0)] * len(utterances) for _ in range(2))
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        mel, lengths = pad_mels([store.mel(int(utterance)) for utterance in utterances[rows]])
        if int(lengths.min()) < least:
            short = utterances[rows[int(lengths.argmin())]]
            raise UserError(
                f"{store.audio_path(int(short))}: {int(lengths.min())} frames are too few to look for words in, at "
                f"least {least} are needed; leave it out."
            )
        parts = [_whole_and_local(encoder, mel[:, shift:].to(device), lengths - shift) for shift in shifts]
        for i, row in enumerate(rows):
            count = min(int(n_frames[i]) for _, _, n_frames in parts)
            whole[row], local[row] = (
                np.stack([part[kind][i, :count] for part in parts], axis=1).reshape(count * SHIFTS, -1)
                for kind in (0, 1)
            )
    return [FineFrames(*pair) for pair in zip(_standardised(whole), _standardised(local), strict=True)]


def _whole_and_local(
    encoder: SpeechEncoder, mel: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, " batch"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both kinds of frames, one for each step of the recurrent network, and how many each utterance has."""
    whole, n_frames = encoder.frames(mel, lengths)
    x = encoder.convolve(mel).transpose(1, 2)[:, : whole.shape[1]]
    x = x * inside(x, n_frames)
    margin = WINDOW // 2
    windows = functional.pad(x, (0, 0, margin, margin)).unfold(1, WINDOW, 1).transpose(2, 3)
    local = encoder.rnn(windows.flatten(0, 1))[0][:, margin].unflatten(0, windows.shape[:2])
    return whole.cpu().numpy(), local.cpu().numpy(), n_frames.numpy()


def _standardised(frames: list[Float[np.ndarray, "_ features"]]) -> list[Float[np.ndarray, "_ features"]]:
    every = np.concatenate(frames)
    mean, std = every.mean(axis=0), every.std(axis=0) + 1e-6
    return [(each - mean) / std for each in frames]


# ------------------------------------------------------------------------------------------------------------ segments


def prominent_boundaries(
    frames: Float[np.ndarray, "frames features"], prominence: float, span: int
) -> Int[np.ndarray, " segments"]:
    """The frames that segments begin with, 0 among them: after the steps at which speech changes most, by how far the
    means of the `span` frames before and after are apart."""
    steps = np.arange(1, len(frames))
    first, last = np.maximum(0, steps - span), np.minimum(len(frames), steps + span)
    total = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, axis=0)])
    before = (total[steps] - total[first]) / (steps - first)[:, None]
    after = (total[last] - total[steps]) / (last - steps)[:, None]
    change = np.linalg.norm(after - before, axis=1)
    spread = change.std() if len(change) else 0.0
    if spread < 1e-9:
        return np.zeros(1, np.int64)
    peaks, _ = find_peaks((change - change.mean()) / spread, prominence=prominence)
    return np.concatenate([[0], peaks + 1]).astype(np.int64)


def equal_boundaries(n_frames: int, segments: int) -> Int[np.ndarray, " segments"]:
    """The same number of segments, equally long."""
    return np.floor(np.arange(segments) * n_frames / segments).astype(np.int64)


def shuffled_boundaries(n_frames: int, segments: int, rng: np.random.Generator) -> Int[np.ndarray, " segments"]:
    """The same number of segments that begin anywhere."""
    return np.concatenate([[0], np.sort(rng.choice(np.arange(1, n_frames), segments - 1, replace=False))])


def segmented(
    frames: Float[np.ndarray, "frames features"],
    peaks: Int[np.ndarray, " pieces"],
    centres: Float[np.ndarray, "clusters features"],
    boundary_cost: float,
    most_frames: int,
) -> Int[np.ndarray, " segments"]:
    """Those of the peaks that make the best segments: the least sum, over segments, of their frames times the squared
    distance from the nearest centre, and of the cost of a boundary (dynamic programming).

    Args:
        peaks: frames that a segment may begin with, 0 among them.
        most_frames: of a segment with a peak inside, which has at most `MOST_PIECES` pieces.
    """
    edges = np.append(peaks, len(frames))
    first, last = np.triu_indices(len(edges), 1)
    whole = (last == first + 1) | ((last - first <= MOST_PIECES) & (edges[last] - edges[first] <= most_frames))
    first, last = first[whole], last[whole]
    total = np.concatenate([np.zeros((1, frames.shape[1])), np.cumsum(frames, axis=0)])
    length = edges[last] - edges[first]
    vectors = (total[edges[last]] - total[edges[first]]) / length[:, None]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    squared = (vectors**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * vectors @ centres.T
    cost = length * squared.min(axis=1) + boundary_cost
    best, begun = np.zeros(len(edges)), np.zeros(len(edges), np.int64)
    for end in range(1, len(edges)):
        ending = np.flatnonzero(last == end)
        so_far = best[first[ending]] + cost[ending]
        best[end], begun[end] = so_far.min(), first[ending[so_far.argmin()]]
    chosen = [len(edges) - 1]
    while chosen[-1]:
        chosen.append(int(begun[chosen[-1]]))
    return edges[chosen[:0:-1]]


def pooled(
    frames: Float[np.ndarray, "frames features"], starts: Int[np.ndarray, " segments"]
) -> Float[np.ndarray, "segments features"]:
    """The mean frame of each segment, of unit length."""
    lengths = np.diff([*starts, len(frames)])
    mean = np.add.reduceat(frames, starts, axis=0) / lengths[:, None]
    return mean / (np.linalg.norm(mean, axis=1, keepdims=True) + 1e-9)


@dataclass(frozen=True)
class Segments:
    """Pieces of several utterances, in their order."""

    utterance: Int[np.ndarray, " segments"]
    """Position among the utterances."""
    start: Float[np.ndarray, " segments"]
    """Seconds, as `end`."""
    end: Float[np.ndarray, " segments"]
    vectors: Float[np.ndarray, "segments features"]

    @classmethod
    def of(
        cls,
        frames: Sequence[Float[np.ndarray, "_ features"]],
        starts: Sequence[Int[np.ndarray, " _"]],
        seconds: Float[np.ndarray, " utterances"],
        times: FrameTimes,
    ) -> Segments:
        begins = [times.starts(each) for each in starts]
        ends = [np.append(each[1:], length) for each, length in zip(begins, seconds, strict=True)]
        return cls(
            np.repeat(np.arange(len(starts)), [len(each) for each in starts]),
            np.concatenate(begins),
            np.concatenate(ends),
            np.concatenate([pooled(each, start) for each, start in zip(frames, starts, strict=True)]),
        )

    def __len__(self) -> int:
        return len(self.utterance)


def clustered(
    vectors: Float[np.ndarray, "items features"], clusters: int, seed: int
) -> tuple[Int[np.ndarray, " items"], Float[np.ndarray, " items"], Float[np.ndarray, "clusters features"]]:
    """k-means: the cluster of each item, its distance from the middle of it, and the middles.

    Raises:
        UserError: scikit-learn is not installed, or there are fewer items than clusters.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise UserError("finding words needs a package: pip install 's2igan[words]'.") from error
    if len(vectors) < clusters:
        raise UserError(
            f"{len(vectors)} segments cannot be put into {clusters} clusters; choose fewer with --clusters."
        )
    found = KMeans(clusters, n_init=1, random_state=seed).fit(vectors)
    labels = found.labels_.astype(np.int64)
    return labels, np.linalg.norm(vectors - found.cluster_centers_[labels], axis=1), found.cluster_centers_


# --------------------------------------------------------------------------------------------------- what goes with it


def mutual_information(
    present: Bool[np.ndarray, "utterances clusters"], labels: Int[np.ndarray, " utterances"]
) -> Float[np.ndarray, " clusters"]:
    """Bits that the presence of each cluster in an utterance tells about a label of its picture."""
    joint = _joint(present, labels)
    expected = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log2(joint / expected), 0.0)
    return terms.sum(axis=(1, 2))


def likeliest(
    present: Bool[np.ndarray, "utterances clusters"], labels: Int[np.ndarray, " utterances"]
) -> tuple[Int[np.ndarray, " clusters"], Float[np.ndarray, " clusters"]]:
    """The label that goes with each cluster (whose share of the mutual information is largest), and how many times as
    often it is the picture's where the cluster is heard."""
    joint = _joint(present, labels)
    heard, of_label = joint[:, 1], joint.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        lift = heard / (heard.sum(axis=1, keepdims=True) * of_label)
        share = np.where(heard > 0, heard * np.log2(lift), 0.0)
    best = share.argmax(axis=1)
    return best, lift[np.arange(len(best)), best]


def _joint(
    present: Bool[np.ndarray, "utterances clusters"], labels: Int[np.ndarray, " utterances"]
) -> Float[np.ndarray, "clusters 2 labels"]:
    """Shares of the utterances: absent or present, by label."""
    kinds = np.eye(int(labels.max()) + 1)[labels]
    heard = present.T.astype(np.float64) @ kinds
    return np.stack([kinds.sum(axis=0) - heard, heard], axis=1) / len(labels)


@dataclass(frozen=True)
class Ranked:
    """What each cluster goes with."""

    bits: Float[np.ndarray, " clusters"]
    """Mutual information with the attribute, or the kind of picture, that it tells most about."""
    attribute: list[str]
    value: list[str]
    lift: Float[np.ndarray, " clusters"]
    """How many times as often pictures have the value where the cluster is heard."""
    chance_bits: float
    """The most that any cluster tells of pictures in another order, 95th percentile over `PERMUTATIONS`."""


def ranked(present: Bool[np.ndarray, "utterances clusters"], facts: Mapping[str, Sequence[str]], seed: int) -> Ranked:
    """For each cluster the attribute that it tells most about, and the value that goes with it."""
    names = list(facts)
    values = {name: sorted(set(facts[name])) for name in names}
    codes = {name: np.array([values[name].index(value) for value in facts[name]]) for name in names}
    bits = np.stack([mutual_information(present, codes[name]) for name in names])
    best = bits.argmax(axis=0)
    with_each = [likeliest(present, codes[name]) for name in names]
    rng = np.random.default_rng([seed, 0xC4A])
    orders = [rng.permutation(len(present)) for _ in range(PERMUTATIONS)]
    chance = [max(float(mutual_information(present, codes[name][order]).max()) for name in names) for order in orders]
    clusters = range(present.shape[1])
    return Ranked(
        bits.max(axis=0),
        [names[best[c]] for c in clusters],
        [values[names[best[c]]][with_each[best[c]][0][c]] for c in clusters],
        np.array([with_each[best[c]][1][c] for c in clusters]),
        float(np.percentile(chance, 95)),
    )


# --------------------------------------------------------------------------------------------------------------- scores


def boundary_scores(
    found: Sequence[Float[np.ndarray, " _"]], true: Sequence[Float[np.ndarray, " _"]], tolerance_seconds: float
) -> dict[str, float]:
    """Precision, recall and F1 of boundaries within utterances; each true one can be met once, by the nearest.

    Args:
        found: of each utterance, seconds, without its beginning; so `true`.
    """
    met = 0
    for here, there in zip(found, true, strict=True):
        left = list(there)
        for time in here:
            near = min(left, key=lambda other: abs(other - time), default=None)
            if near is not None and abs(near - time) <= tolerance_seconds:
                left.remove(near)
                met += 1
    n_found, n_true = sum(map(len, found)), sum(map(len, true))
    precision, recall = met / max(n_found, 1), met / max(n_true, 1)
    f1 = 2 * precision * recall / (precision + recall) if met else 0.0
    return {"precision": precision, "recall": recall, "f1": f1}


def word_spans(spoken: Sequence[SpokenWord], seconds: float) -> list[tuple[str, float, float]]:
    """Each word with its beginning and end: it lasts until the next begins, the last one until the utterance ends."""
    ends = [*(word.start_seconds for word in spoken[1:]), seconds]
    return [(word.word, word.start_seconds, end) for word, end in zip(spoken, ends, strict=False)]


def most_overlapping(segments: Segments, words: Sequence[Sequence[SpokenWord] | None]) -> list[str]:
    """The word that each segment has most of."""
    said = []
    for utterance, start, end in zip(segments.utterance, segments.start, segments.end, strict=True):
        spans = word_spans(words[utterance] or (), np.inf)
        said.append(max(spans, key=lambda span: min(end, span[2]) - max(start, span[1]))[0])
    return said


def cut_out(
    segments: Segments,
    names: Sequence[str],
    words: Sequence[Sequence[SpokenWord] | None],
    seconds: Float[np.ndarray, " utterances"],
    wanted: Sequence[str],
    tolerance_seconds: float,
) -> dict[str, float]:
    """How well segments named as one of the words asked for are those words, from edge to edge.

    Args:
        names: of each segment, the word of its cluster.

    Returns:
        `time_precision`: the share of their time in which that word is spoken; `time_recall`: the share of the words'
        time that lies in segments so named; `time_f1`; `whole`: the share of the words spoken that one such segment
        has with both edges within the tolerance.
    """
    within = in_segments = in_words = 0.0
    whole = spoken_words = 0
    of_utterance: dict[int, list[int]] = {}
    for i, utterance in enumerate(segments.utterance.tolist()):
        if names[i] in wanted:
            of_utterance.setdefault(utterance, []).append(i)
    for utterance, spoken in enumerate(words):
        if spoken is None:
            continue
        spans = [span for span in word_spans(spoken, float(seconds[utterance])) if span[0] in wanted]
        in_words += sum(end - start for _, start, end in spans)
        spoken_words += len(spans)
        here = of_utterance.get(utterance, [])
        in_segments += sum(float(segments.end[i] - segments.start[i]) for i in here)
        for word, start, end in spans:
            own = [i for i in here if names[i] == word]
            within += sum(max(0.0, min(end, segments.end[i]) - max(start, segments.start[i])) for i in own)
            edges = [max(abs(segments.start[i] - start), abs(segments.end[i] - end)) for i in own]
            whole += min(edges, default=np.inf) <= tolerance_seconds
    precision, recall = within / max(in_segments, 1e-9), within / max(in_words, 1e-9)
    return {
        "time_precision": precision,
        "time_recall": recall,
        "time_f1": 2 * precision * recall / max(precision + recall, 1e-9),
        "whole": whole / max(spoken_words, 1),
    }


@dataclass(frozen=True)
class Named:
    """Clusters named by the word that most of their segments are."""

    word: list[str]
    share: Float[np.ndarray, " clusters"]
    """Of the cluster's segments that are this word."""
    purity: float
    """Share of all segments that are the word of their cluster."""
    wanted_purity: float
    """The same of the segments in clusters of the words asked for."""
    recall: dict[str, float]
    """Of each word asked for, the share of its segments that are in clusters of its name."""


def named(clusters: Int[np.ndarray, " segments"], said: Sequence[str], wanted: Sequence[str], n_clusters: int) -> Named:
    """Score clusters by the words that their segments are; `wanted` are words of interest."""
    words, codes = np.unique(np.asarray(said), return_inverse=True)
    counts = np.zeros((n_clusters, len(words)))
    np.add.at(counts, (clusters, codes), 1)
    best = counts.argmax(axis=1)
    right = best[clusters] == codes
    asked = np.isin(words, wanted)
    in_asked = asked[best[clusters]]
    recall = {str(word): float(right[codes == i].mean()) for i, word in enumerate(words) if asked[i]}
    return Named(
        [str(words[i]) for i in best],
        counts.max(axis=1) / counts.sum(axis=1).clip(1),
        float(right.mean()),
        float(right[in_asked].mean()) if in_asked.any() else 0.0,
        recall,
    )


# --------------------------------------------------------------------------------------------------------------- search


@dataclass(frozen=True)
class Example:
    """A segment to play."""

    utterance: int
    """Number in the store, as `image`."""
    image: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class FoundWord:
    """A cluster of segments."""

    number: int
    segments: int
    utterances: int
    """That it is heard in."""
    bits: float
    attribute: str
    value: str
    lift: float
    said: str | None
    """The word that most of its segments are, where that is known."""
    share: float | None
    """Of its segments that are this word."""
    examples: tuple[Example, ...]
    """Those nearest to its middle, each of another recording."""


@dataclass(frozen=True)
class Discovery:
    """What a search found, the words that tell most first."""

    split: EvaluationSplit
    networks: Networks
    utterances: Int[np.ndarray, " utterances"]
    """That were searched; numbers in the store."""
    segments: Segments
    clusters: Int[np.ndarray, " segments"]
    """The cluster of each segment."""
    ranking: Ranked
    facts: Mapping[str, Sequence[str]]
    """Of each utterance's picture, by attribute."""
    spoken: Sequence[Sequence[SpokenWord] | None]
    """The words of each utterance, where they are known: to score by."""
    words: list[FoundWord]
    record: dict[str, Any]
    """As in `words.json`: settings, counts, scores."""


def find_words(
    run: str | Path,
    data_dir: str | Path,
    *,
    search: WordSearch = DEFAULTS,
    split: str = "test",
    seed: int = 0,
    device: torch.device | None = None,
) -> Discovery:
    """Look for words in the recordings of a split.

    Raises:
        UserError: the run or the set cannot be read, its encoder is not the paper's, it has no attributes where they
            are asked for, or scikit-learn is not installed.
    """
    store = Store.open(data_dir)
    chosen = EvaluationSplit.of(store, split)
    networks = Networks.load(Subject.of(run), device or torch.device("cpu"))
    if not isinstance(networks.speech, SpeechEncoder):
        raise UserError(f"{run}: words are found in the frames of the paper's speech encoder; this run has another.")
    order = np.random.default_rng([seed, 0x30D]).permutation(chosen.utterances)
    utterances = np.sort(order[: search.utterances])
    frames = fine_frames(networks.speech, store, utterances)
    times = FrameTimes.of(networks.speech)
    seconds = store.n_frames[utterances] * (HOP_LENGTH / SAMPLE_RATE)

    local = [each.local for each in frames]
    peaks = [prominent_boundaries(each.whole, search.prominence, search.span) for each in frames]
    cut, most = peaks, round(MOST_SECONDS / times.step_seconds)
    segments = Segments.of(local, cut, seconds, times)
    clusters, distances, centres = clustered(segments.vectors, search.clusters, seed)
    for _ in range(ROUNDS):
        cut = [segmented(f, p, centres, search.boundary_cost, most) for f, p in zip(local, peaks, strict=True)]
        segments = Segments.of(local, cut, seconds, times)
        clusters, distances, centres = clustered(segments.vectors, search.clusters, seed)
    present = np.zeros((len(utterances), search.clusters), bool)
    present[segments.utterance, clusters] = True
    facts = facts_of(networks, chosen, utterances, search, seed)
    ranking = ranked(present, facts, seed)

    spoken, scores, names = words_spoken(store, utterances), {}, None
    if any(words is not None for words in spoken):
        colours = sorted({value for name in facts if name.endswith("_colour") for value in facts[name]})
        names, scores["found"] = scored(segments, clusters, spoken, seconds, colours)
        rng = np.random.default_rng([seed, 0x5B0])
        others = {
            "equally long": [equal_boundaries(len(f), len(c)) for f, c in zip(local, cut, strict=True)],
            "shuffled": [shuffled_boundaries(len(f), len(c), rng) for f, c in zip(local, cut, strict=True)],
        }
        for name, starts in others.items():
            other = Segments.of(local, starts, seconds, times)
            in_clusters, *_ = clustered(other.vectors, search.clusters, seed)
            _, scores[name] = scored(other, in_clusters, spoken, seconds, colours)

    found = []
    for number in np.argsort(-ranking.bits, kind="stable").tolist():
        members = np.flatnonzero(clusters == number)
        nearest = members[np.argsort(distances[members], kind="stable")]
        _, first = np.unique(segments.utterance[nearest], return_index=True)
        found.append(
            FoundWord(
                number,
                segments=len(members),
                utterances=int(present[:, number].sum()),
                bits=float(ranking.bits[number]),
                attribute=ranking.attribute[number],
                value=ranking.value[number],
                lift=float(ranking.lift[number]),
                said=None if names is None else names.word[number],
                share=None if names is None else float(names.share[number]),
                examples=tuple(
                    Example(
                        utterance=int(utterances[segments.utterance[i]]),
                        image=int(store.image_index[utterances[segments.utterance[i]]]),
                        start_seconds=float(segments.start[i]),
                        end_seconds=float(segments.end[i]),
                    )
                    for i in nearest[np.sort(first)][: search.examples]
                ),
            )
        )
    record = {
        "split": split,
        "voices": chosen.voices,
        "seed": seed,
        "search": asdict(search),
        "utterances": len(utterances),
        "segments": len(segments),
        "utterances_with_known_words": sum(words is not None for words in spoken),
        "tolerance_seconds": TOLERANCE_SECONDS,
        "chance_bits": ranking.chance_bits,
        "scores": scores,
        "words": [asdict(word) for word in found],
    }
    return Discovery(chosen, networks, utterances, segments, clusters, ranking, facts, spoken, found, record)


def facts_of(
    networks: Networks, split: EvaluationSplit, utterances: Int[np.ndarray, " some"], search: WordSearch, seed: int
) -> dict[str, list[str]]:
    """Of each utterance's picture: its attributes by name, or else the kind of picture that it is.

    Raises:
        UserError: attributes are asked for and the set has none.
    """
    store = split.store
    if search.against == "attributes" and not store.attributes:
        raise UserError(f"{store.directory}: no attributes of the pictures are known; leave --against out.")
    images = store.image_index[utterances]
    if store.attributes and search.against != "pictures":
        known = {int(image): store.image_attributes(int(image)) for image in np.unique(images)}
        return {name: [known[int(image)].get(name, "unknown") for image in images] for name in store.attributes}
    embedded = image_features(networks.image, store.images, split.images, crop=networks.image_size, project=True)
    kinds, *_ = clustered(embedded, min(search.picture_clusters, len(embedded)), seed)
    return {"picture": [f"kind {kinds[i] + 1}" for i in np.searchsorted(split.images, images)]}


def words_spoken(store: Store, utterances: Int[np.ndarray, " some"]) -> list[list[SpokenWord] | None]:
    """The words of each utterance, where a drawn set tells."""
    drawn = drawn_set_of(store)
    if drawn is None:
        return [None] * len(utterances)
    try:
        times = WordTimes(store, drawn)
        return [times.of(int(utterance)) for utterance in utterances]
    except UserError:  # another version of the set, or espeak-ng is not installed
        return [None] * len(utterances)


def scored(
    segments: Segments,
    clusters: Int[np.ndarray, " segments"],
    spoken: Sequence[Sequence[SpokenWord] | None],
    seconds: Float[np.ndarray, " utterances"],
    colours: Sequence[str],
) -> tuple[Named, dict[str, Any]]:
    """Clusters by the words that were spoken, and scores of boundaries and clusters in the utterances of which these
    are known.

    Args:
        seconds: how long each utterance is.
    """
    known = [i for i, words in enumerate(spoken) if words is not None]
    within = np.isin(segments.utterance, known)
    kept = Segments(
        *(values[within] for values in (segments.utterance, segments.start, segments.end, segments.vectors))
    )
    here = [segments.start[(segments.utterance == i) & (segments.start > 0)] for i in known]
    there = [np.array([word.start_seconds for word in (spoken[i] or ())][1:]) for i in known]
    names = named(clusters[within], most_overlapping(kept, spoken), colours, int(clusters.max()) + 1)
    return names, {
        "boundaries": boundary_scores(here, there, TOLERANCE_SECONDS),
        "purity": names.purity,
        "colour_purity": names.wanted_purity,
        "colour_recall": names.recall,
        "colours": cut_out(
            kept, [names.word[c] for c in clusters[within]], spoken, seconds, colours, TOLERANCE_SECONDS
        ),
    }
