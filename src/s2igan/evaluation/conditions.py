"""How well a model understands speech that is not as it was trained on: other voices, engines, noise and rooms.

The same captions are heard under every condition. Recordings of the split are distorted, or, where what they say is
known, captions are spoken anew by voices of which no recording is in the set.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Bool, Float, Int
from scipy.signal import butter, fftconvolve, sosfilt

from s2igan.audio import SAMPLE_RATE, check_waveform, load_audio, resampled
from s2igan.corpora.builtin.drawn import ENGLISH, LANGUAGE, UNSEEN_VOICES
from s2igan.corpora.builtin.spoken_words import WordTimes
from s2igan.data.dataset import crop_and_flip, pad_mels
from s2igan.data.pack import stored_log_mel
from s2igan.errors import UserError
from s2igan.evaluation.attributes import AttributeClassifier
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks
from s2igan.evaluation.features import image_features
from s2igan.evaluation.generation import HEARD_AT_ONCE, draw_samples
from s2igan.evaluation.options import NO_OTHERS, OtherConditions
from s2igan.evaluation.scores import Group, Score
from s2igan.metrics.bootstrap import interval, resample_clusters
from s2igan.metrics.retrieval import average_precision, chance_map, cosine_similarity, same_label
from s2igan.parallel import track
from s2igan.speech import parse_voice
from s2igan.speech.espeak import Espeak

CAPTIONS = 200
"""Heard under every condition, chosen at random; fewer where the split has fewer."""
TELEPHONE_HZ, TELEPHONE_RATE = (300.0, 3400.0), 8000
REVERBERATION_SECONDS = 0.5
"""In which what rings on falls by 60 dB."""
DIRECT_TO_REVERBERANT_DB = 3.0
FASTER, SLOWER = 1.2, 0.8
AAC_BITS = 24_000
"""A second."""
ENGINES = {
    "flite": ("flite, an engine never heard", "command:flite -voice slt -t {text} -o {wav}"),
    "festival": ("festival, an engine never heard", "command:text2wave -o {wav}"),
}
"""Of Debian, by key: name, and voice string."""
PIPER = "piper:joe"
OWN, OTHER_VOICES = "own", "espeak"
"""Keys of the conditions that others are compared with: the recordings as they are, and voices of espeak-ng that speak
in no split."""

Wave = Float[np.ndarray, " samples"]
Heard = Float[np.ndarray, " heard"]
"""Mono float32 at 22,050 Hz."""


# --------------------------------------------------------------------------------------------------------- distortions


def telephone(wave: Wave, rng: np.random.Generator) -> Heard:
    """300 to 3,400 Hz at 8 kHz in 8 bits by the mu-law (ITU-T G.711, without its table)."""
    narrow = soxr.resample(wave, SAMPLE_RATE, TELEPHONE_RATE)
    narrow = sosfilt(butter(4, TELEPHONE_HZ, "bandpass", fs=TELEPHONE_RATE, output="sos"), narrow).clip(-1, 1)
    mu = 255.0
    coded = np.round(np.sign(narrow) * np.log1p(mu * np.abs(narrow)) / np.log1p(mu) * 127) / 127
    decoded = np.sign(coded) * np.expm1(np.abs(coded) * np.log1p(mu)) / mu
    return resampled(decoded, TELEPHONE_RATE, "a telephone's sound")


def noisy(wave: Wave, rng: np.random.Generator, snr_db: float) -> Heard:
    """Pink noise (power falls with frequency, as that of most rooms), so many dB below the speech's mean power."""
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, len(wave))
    noise *= np.sqrt((wave**2).mean() / (noise**2).mean()) * 10 ** (-snr_db / 20)
    return (wave + noise).astype(np.float32)


def reverberant(wave: Wave, rng: np.random.Generator) -> Heard:
    """A room: the sound, then noise that decays exponentially (Polack's model of late reverberation)."""
    time = np.arange(round(REVERBERATION_SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    room = rng.standard_normal(len(time)) * 10 ** (-3 * time / REVERBERATION_SECONDS)
    room *= 10 ** (-DIRECT_TO_REVERBERANT_DB / 20) / np.sqrt((room**2).sum())
    room[0] = 1.0
    heard = fftconvolve(wave, room)
    return _as_loud(heard, wave)


def in_room(wave: Wave, rng: np.random.Generator, response: Float[np.ndarray, " response"]) -> Heard:
    """A room of which there is a recording: its answer to a click, at 22,050 Hz. What precedes its loudest sample is
    left out, so that speech begins when it began."""
    return _as_loud(fftconvolve(wave, response[np.abs(response).argmax() :]), wave)


def _as_loud(heard: Float[np.ndarray, " heard"], wave: Wave) -> Heard:
    """With the peak of the recording as it was."""
    return (heard * np.abs(wave).max() / np.abs(heard).max()).astype(np.float32)


def at_speed(wave: Wave, rng: np.random.Generator, factor: float) -> Heard:
    """So many times as fast, as a tape: the pitch goes with it (Ko et al. 2015)."""
    return np.ascontiguousarray(soxr.resample(wave, factor, 1.0), np.float32)


def aac(wave: Wave, rng: np.random.Generator) -> Heard:
    """What a phone keeps of a recording: AAC at 24 kbit/s.

    Raises:
        UserError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError("a phone's AAC needs a package: pip install 's2igan[phones]'.") from error
    file = io.BytesIO()
    with av.open(file, "w", format="adts") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        stream.bit_rate = AAC_BITS
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    file.seek(0)
    with av.open(file, "r") as coded:
        parts = [frame.to_ndarray()[0] for frame in coded.decode(audio=0)]
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True)
class Condition:
    """How captions are heard."""

    key: str
    name: str
    distort: Callable[[Wave, np.random.Generator], Heard] | None = None
    """Of the split's recordings."""
    voices: tuple[str, ...] = ()
    """That speak the captions anew, in turn; voice strings."""
    against: str = OWN
    """Key of the condition that it is compared with: for another engine, other voices of espeak-ng."""


DISTORTIONS = (
    Condition(OWN, "the split's recordings"),
    Condition("telephone", "a telephone's band", telephone),
    Condition("noise_20", "noise at 20 dB", lambda wave, rng: noisy(wave, rng, 20)),
    Condition("noise_10", "noise at 10 dB", lambda wave, rng: noisy(wave, rng, 10)),
    Condition("reverberation", "a room of 0.5 s", reverberant),
    Condition("faster", "20 % faster", lambda wave, rng: at_speed(wave, rng, FASTER)),
    Condition("slower", "20 % slower", lambda wave, rng: at_speed(wave, rng, SLOWER)),
    Condition("aac", "a phone's AAC at 24 kbit/s", aac),
)


# ---------------------------------------------------------------------------------------------------- what can be heard


@dataclass(frozen=True)
class Captions:
    """Captions of a split, and what they say where that is known."""

    split: EvaluationSplit
    utterances: Int[np.ndarray, " captions"]
    said: list[str] | None
    """What a voice is given to speak."""

    @classmethod
    def of(cls, split: EvaluationSplit, count: int, seed: int) -> Captions:
        order = np.random.default_rng([seed, 0xC0D]).permutation(split.utterances)
        utterances = np.sort(order[:count])
        return cls(split, utterances, _said(split, utterances))

    def conditions(self, others: OtherConditions = NO_OTHERS) -> tuple[list[Condition], list[str]]:
        """Those that can be had here, and why some cannot that nobody asked for by name.

        Raises:
            UserError: one that is asked for by name cannot be had.
        """
        store, missing = self.split.store, []
        language = store.report.get(LANGUAGE, ENGLISH)
        drawn = drawn_set_of(store)
        found = [*DISTORTIONS, *_rooms(others.rooms)]
        if self.said is None:
            if others.voices:
                raise UserError(
                    f"--condition-voices {others.voices[0]}: what the captions say is not known, or not in English; "
                    "leave it out."
                )
            return found, ["other voices: what the captions say is not known, or not in English"]
        unseen = UNSEEN_VOICES if drawn is None else drawn.unseen_voices
        spoken = tuple(f"espeak:{voice}" if drawn is None else drawn.voice(voice) for voice in unseen)
        candidates = [Condition(OTHER_VOICES, f"{len(spoken)} other voices of espeak-ng", voices=spoken)]
        if language == ENGLISH:
            for key, (name, voice) in ENGINES.items():
                candidates.append(Condition(key, name, voices=(voice,), against=OTHER_VOICES))
            heard = any(name.startswith("piper:") for name in store.speakers)
            name = f"Piper{', trained on' if heard else ''}"
            candidates.append(Condition("piper", name, voices=(PIPER,), against=OTHER_VOICES))
        for condition in candidates:
            try:
                for voice in condition.voices:
                    parse_voice(voice)
            except UserError as error:
                missing.append(f"{condition.name}: {error}")
            else:
                found.append(condition)
        for number, name in enumerate(others.voices, start=1):
            speaker = parse_voice(name)
            if language != ENGLISH and not (isinstance(speaker, Espeak) and speaker.phonemes):
                raise UserError(
                    f"--condition-voices {name}: the captions are phonemes, which espeak-ng alone speaks; name a voice "
                    "such as espeak:pl?phonemes=1, or leave it out."
                )
            found.append(Condition(f"voice_{number}", name, voices=(name,), against=OTHER_VOICES))
        return found, missing

    def heard(self, condition: Condition, seed: int) -> list[np.ndarray]:
        """The sound of every caption; the same seed gives the same noise."""
        store = self.split.store
        waves = []
        for i, utterance in enumerate(track(self.utterances, condition.name)):
            name = str(store.audio_path(int(utterance)))
            if condition.voices:
                assert self.said is not None
                voice = parse_voice(condition.voices[i % len(condition.voices)])
                wave = resampled(voice.synthesize(self.said[i]), voice.sample_rate, voice.name)
            else:
                wave = load_audio(store.audio_path(int(utterance)), *store.segment(int(utterance)))
            if condition.distort is not None:
                rng = np.random.default_rng([seed, int(utterance), zlib.crc32(condition.key.encode())])
                wave = condition.distort(wave, rng)
            check_waveform(wave, name)
            waves.append(wave)
        return waves


def _rooms(files: Sequence[Path]) -> Iterator[Condition]:
    """The rooms of which there are recordings."""
    for number, file in enumerate(files, start=1):
        yield Condition(f"room_{number}", f"the room {file.name}", partial(in_room, response=load_audio(file)))


def _said(split: EvaluationSplit, utterances: Int[np.ndarray, " captions"]) -> list[str] | None:
    store = split.store
    language = store.report.get(LANGUAGE, ENGLISH)
    if language == ENGLISH:
        texts = [store.text(int(utterance)) for utterance in utterances]
        in_english = all((store.language(int(utterance)) or "").startswith("en") for utterance in utterances)
        return [text for text in texts if text] if in_english and all(texts) else None
    drawn = drawn_set_of(store)
    if drawn is None:
        return None
    try:
        times = WordTimes(store, drawn)
    except UserError:
        return None
    known = [times.said(int(utterance)) for utterance in utterances]
    return None if any(one is None for one in known) else [one[0].text for one in known if one is not None]


# --------------------------------------------------------------------------------------------------------------- scores


def condition_groups(
    networks: Networks,
    split: EvaluationSplit,
    classifier: AttributeClassifier | None,
    *,
    captions: int,
    seed: int,
    others: OtherConditions = NO_OTHERS,
) -> list[Group]:
    """A score of stage 1 under every condition, and one of stage 2 where there is a model and a classifier.

    Args:
        others: further conditions.

    Raises:
        UserError: a recording cannot be read, the run's encoder reads no speech, or one of the others cannot be had.
    """
    if networks.speech.reads != "speech":
        raise UserError("--conditions: this baseline reads no speech; leave the option out.")
    chosen = Captions.of(split, min(captions, len(split.utterances)), seed)
    conditions, missing = chosen.conditions(others)
    store, utterances = split.store, chosen.utterances
    images = image_features(networks.image, store.images, split.images, crop=networks.image_size, project=True)
    if store.has_classes:
        right = same_label(store.utterance_class[utterances], store.image_class[split.images])
    else:
        right = same_label(store.image_index[utterances], split.images)
    found: dict[str, Answers] = {}
    drawn: dict[str, Answers] = {}
    for condition in conditions:
        waves = chosen.heard(condition, seed)
        arrays = [stored_log_mel(wave, store.window).astype(np.float32) for wave in waves]  # type: ignore[arg-type]
        precision = average_precision(cosine_similarity(embedded(networks, arrays), images), right)
        found[condition.key] = Answers(precision[:, None], np.ones((len(precision), 1), bool))
        if networks.model is not None and classifier is not None:
            drawn[condition.key] = _drawn(networks, chosen, arrays, classifier, seed)
    protocol: dict[str, Any] = {**split.protocol, "captions": len(utterances), "images": len(images), "seed": seed}
    left_out = f" Left out: {'; '.join(missing)}" if missing else ""
    heard = f"{len(utterances)} captions of the {split.name} split, each heard under every condition"
    compared = (
        "Each row is compared with the split's recordings, that of another engine with the other voices of espeak-ng; "
        "normalised: 1 is that, and 0 chance."
    )
    clusters = store.utterance_class[utterances]
    about = f"{heard}: mAP, every caption a query, against {len(images)} images. {compared}{left_out}"
    scores = condition_scores("conditions", conditions, found, chance_map(right), clusters, protocol)
    groups = [Group("conditions", "Voices and rooms: finding images by speech", about, scores)]
    if drawn:
        assert classifier is not None
        asked = drawn[OWN].asked
        of_each = [1 / len(values) for row, values in enumerate(classifier.attributes.values()) if asked[:, row].any()]
        chance = float(np.mean(of_each))
        about = (
            f"{heard}: mean accuracy of the attributes that captions name, one image each with the same noise. "
            f"{compared}{left_out}"
        )
        scores = condition_scores("conditions_drawn", conditions, drawn, chance, clusters, protocol)
        groups.append(Group("conditions_drawn", "Voices and rooms: what is drawn", about, scores))
    return groups


@dataclass(frozen=True)
class Answers:
    """What captions scored under a condition, question by question: mAP is one question, accuracy one an attribute."""

    right: Float[np.ndarray, "captions questions"]
    """0 to 1; 0 where a caption was not asked."""
    asked: Bool[np.ndarray, "captions questions"]

    def means(self, weights: Float[np.ndarray, "resamples captions"]) -> Float[np.ndarray, " resamples"]:
        """The mean over questions of the mean over the captions asked, which count as often as they were drawn."""
        counts = weights @ self.asked
        with np.errstate(invalid="ignore"):
            shares = (weights @ self.right) / counts
        return np.nanmean(shares, axis=1)


def condition_scores(
    group: str,
    conditions: Sequence[Condition],
    answers: Mapping[str, Answers],
    chance: float,
    clusters: Int[np.ndarray, " captions"],
    protocol: Mapping[str, Any],
) -> list[Score]:
    """A score for each condition, beside the one that it is compared with. The interval of what is kept draws the same
    species and captions for both."""
    (drawn,) = resample_clusters(clusters, rng=np.random.default_rng(protocol["seed"]))
    once = np.ones((1, len(clusters)))
    names = {condition.key: condition.name for condition in conditions}
    scores = []
    for condition in conditions:
        against = condition.against if condition.against in answers else OWN
        here, there = answers[condition.key], answers[against]
        value, beside = (float(of.means(once)[0]) for of in (here, there))
        values, besides = (of.means(drawn.weights) for of in (here, there))
        sure = against != condition.key and min(beside, besides.min()) > chance
        scores.append(
            Score(
                f"{group}/{condition.key}",
                condition.name,
                value,
                {**protocol, "voices_heard": list(condition.voices) or protocol["voices"], "against": names[against]},
                interval=interval(values),
                chance=chance,
                ceiling=beside,
                ceiling_name="compared with",
                normalised=(value - chance) / (beside - chance) if sure else None,
                normalised_interval=interval((values - chance) / (besides - chance)) if sure else None,
            )
        )
    return scores


def markdown(groups: Sequence[Group]) -> str:
    """The groups as one table for a model card: a row for each condition, with the share that it keeps of what the
    condition that it is compared with has above chance."""
    columns = [{score.name: score for score in group.scores} for group in groups]
    header = ["condition", "compared with"]
    header += [head for group in groups for head in (group.title.partition(": ")[2], "kept above chance")]
    lines = [header, ["---"] * len(header)]
    for name, score in columns[0].items():
        against = score.protocol["against"]
        cells = [cell for scores in columns for cell in (_shown(scores[name]), _kept(scores[name]))]
        lines.append([name, "" if against == name else against, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _shown(score: Score) -> str:
    return f"{score.shown(score.value)} ({score.spread})"


def _kept(score: Score) -> str:
    """Which share a condition keeps, with its interval; empty where that means nothing."""
    if score.normalised is None or score.normalised_interval is None:
        return ""
    low, high = score.normalised_interval
    return f"{score.normalised:.0%} ({low:.0%} to {high:.0%})"


@torch.inference_mode()
def embedded(networks: Networks, mels: Sequence[Float[np.ndarray, "_ mels"]]) -> Float[np.ndarray, "captions n"]:
    """The speech embeddings of spectrograms."""
    device = next(networks.image.parameters()).device
    order = np.argsort([len(mel) for mel in mels], kind="stable")
    out = np.empty((len(mels), networks.speech.config.embedding), np.float32)
    for at in range(0, len(order), HEARD_AT_ONCE):
        rows = order[at : at + HEARD_AT_ONCE]
        mel, lengths = pad_mels([mels[row] for row in rows])
        out[rows] = networks.speech(mel.to(device), lengths).cpu().numpy()
    return out


def _drawn(
    networks: Networks,
    captions: Captions,
    mels: Sequence[Float[np.ndarray, "_ mels"]],
    classifier: AttributeClassifier,
    seed: int,
) -> Answers:
    """Whether the picture drawn for each caption shows the attributes that the caption names."""
    model, store = networks.model, captions.split.store
    assert model is not None
    noise = model.noise(len(mels), seed)[:, None]
    side = model.resolutions[-1]
    pictures = np.empty((len(mels), side, side, 3), np.uint8)
    order = np.argsort([len(mel) for mel in mels], kind="stable")
    for at in range(0, len(order), HEARD_AT_ONCE):
        rows = order[at : at + HEARD_AT_ONCE]
        condition = model.listen(*pad_mels([mels[row] for row in rows]))
        pictures[rows] = draw_samples(model, condition, noise[torch.from_numpy(rows)])[:, 0]
    facts = [store.image_attributes(int(store.image_index[utterance])) for utterance in captions.utterances]
    mentions = [store.mentions(int(utterance)) for utterance in captions.utterances]
    seen, truths = classifier.predict(crop_and_flip(pictures, side, None)), classifier.codes(facts)
    asked = np.array([[name in row for name in classifier.attributes] for row in mentions])
    right = np.stack([seen[name] == truths[name] for name in classifier.attributes], axis=1)
    return Answers((right & asked).astype(np.float64), asked)
