"""How well a model understands speech that is not as it was trained on: other voices, engines, noise and rooms.

The same captions are heard under every condition. Recordings of the split are distorted, or, where what they say is
known, captions are spoken anew by voices of which no recording is in the set.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr
import torch
from jaxtyping import Float, Int
from scipy.signal import butter, fftconvolve, sosfilt

from s2igan.audio import SAMPLE_RATE, check_waveform, load_audio, resampled
from s2igan.corpora.builtin.drawn import ENGLISH, LANGUAGE, UNSEEN_VOICES
from s2igan.corpora.builtin.spoken_words import WordTimes
from s2igan.data.dataset import crop_and_flip, pad_mels
from s2igan.data.pack import stored_log_mel
from s2igan.errors import UserError
from s2igan.evaluation.attributes import Accuracy, AttributeClassifier, attribute_accuracy
from s2igan.evaluation.drawings import drawn_set_of
from s2igan.evaluation.evaluation_split import EvaluationSplit, Networks
from s2igan.evaluation.features import image_features
from s2igan.evaluation.generation import HEARD_AT_ONCE, draw_samples
from s2igan.evaluation.scores import Group, Score
from s2igan.metrics.bootstrap import mean_interval
from s2igan.metrics.retrieval import average_precision, chance_map, cosine_similarity, same_label
from s2igan.parallel import track
from s2igan.speech import parse_voice

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
OWN = "own"
"""Key of the condition that the others are compared with: the recordings as they are."""

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

    def conditions(self) -> tuple[list[Condition], list[str]]:
        """Those that can be had here, and why others cannot."""
        store, missing = self.split.store, []
        language = store.report.get(LANGUAGE, ENGLISH)
        drawn = drawn_set_of(store)
        found = list(DISTORTIONS)
        if self.said is None:
            return found, ["other voices: what the captions say is not known, or not in English"]
        unseen = UNSEEN_VOICES if drawn is None else drawn.unseen_voices
        spoken = tuple(f"espeak:{voice}" if drawn is None else drawn.voice(voice) for voice in unseen)
        candidates = [Condition("espeak", f"{len(spoken)} other voices of espeak-ng", voices=spoken)]
        if language == ENGLISH:
            for key, (name, voice) in ENGINES.items():
                candidates.append(Condition(key, name, voices=(voice,)))
            heard = any(name.startswith("piper:") for name in store.speakers)
            candidates.append(Condition("piper", f"Piper{', trained on' if heard else ''}", voices=(PIPER,)))
        for condition in candidates:
            try:
                for voice in condition.voices:
                    parse_voice(voice)
            except UserError as error:
                missing.append(f"{condition.name}: {error}")
            else:
                found.append(condition)
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
    networks: Networks, split: EvaluationSplit, classifier: AttributeClassifier | None, *, captions: int, seed: int
) -> list[Group]:
    """A score of stage 1 under every condition, and one of stage 2 where there is a model and a classifier.

    Raises:
        UserError: a recording cannot be read, or the run's encoder reads no speech.
    """
    if networks.speech.reads != "speech":
        raise UserError("--conditions: this baseline reads no speech; leave the option out.")
    chosen = Captions.of(split, min(captions, len(split.utterances)), seed)
    conditions, missing = chosen.conditions()
    store, utterances = split.store, chosen.utterances
    images = image_features(networks.image, store.images, split.images, crop=networks.image_size, project=True)
    if store.has_classes:
        right = same_label(store.utterance_class[utterances], store.image_class[split.images])
    else:
        right = same_label(store.image_index[utterances], split.images)
    found: dict[str, Float[np.ndarray, " captions"]] = {}
    drawn: dict[str, Accuracy] = {}
    for condition in conditions:
        waves = chosen.heard(condition, seed)
        arrays = [stored_log_mel(wave, store.window).astype(np.float32) for wave in waves]  # type: ignore[arg-type]
        found[condition.key] = average_precision(cosine_similarity(embedded(networks, arrays), images), right)
        if networks.model is not None and classifier is not None:
            drawn[condition.key] = _drawn_accuracy(networks, chosen, arrays, classifier, seed)
    protocol: dict[str, Any] = {**split.protocol, "captions": len(utterances), "images": len(images), "seed": seed}
    left_out = f" Left out: {'; '.join(missing)}" if missing else ""
    heard = f"{len(utterances)} captions of the {split.name} split, each heard under every condition"
    chance = chance_map(right)
    own = found[OWN].mean()
    clusters = store.utterance_class[utterances]
    scores = [
        Score(
            f"conditions/{condition.key}",
            condition.name,
            float(found[condition.key].mean()),
            {**protocol, "voices_heard": list(condition.voices) or split.voices},
            interval=mean_interval(found[condition.key], clusters, seed=seed),
            chance=chance,
            ceiling=float(own),
            ceiling_name="the split's recordings",
        )
        for condition in conditions
    ]
    about = f"{heard}: mAP, every caption a query, against {len(images)} images. The ceiling is the split's recordings."
    groups = [Group("conditions", "Voices and rooms: finding images by speech", about + left_out, scores)]
    if drawn:
        scores = [
            Score(
                f"conditions_drawn/{condition.key}",
                condition.name,
                drawn[condition.key].accuracy,
                protocol,
                chance=drawn[condition.key].chance,
                ceiling=drawn[OWN].accuracy,
                ceiling_name="the split's recordings",
            )
            for condition in conditions
        ]
        about = f"{heard}: mean accuracy of the attributes that captions name, one image each with the same noise."
        groups.append(Group("conditions_drawn", "Voices and rooms: what is drawn", about + left_out, scores))
    return groups


def markdown(groups: Sequence[Group]) -> str:
    """The groups as one table for a model card: a row for each condition, with the share that it keeps of what the
    split's recordings have above chance."""
    columns = [{score.name: score for score in group.scores} for group in groups]
    header = ["condition", *(group.title.partition(": ")[2] for group in groups)]
    rows = [[name, *(_kept(scores[name]) for scores in columns)] for name in columns[0]]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _kept(score: Score) -> str:
    """A value, and which share it keeps of what the ceiling has above chance."""
    assert score.ceiling is not None
    assert score.chance is not None
    above = score.ceiling - score.chance
    return score.shown(score.value) + (f" ({(score.value - score.chance) / above:.0%})" if above > 0 else "")


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


def _drawn_accuracy(
    networks: Networks,
    captions: Captions,
    mels: Sequence[Float[np.ndarray, "_ mels"]],
    classifier: AttributeClassifier,
    seed: int,
) -> Accuracy:
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
    n_values = {name: len(values) for name, values in classifier.attributes.items()}
    seen = classifier.predict(crop_and_flip(pictures, side, None))
    return Accuracy.mean(attribute_accuracy(seen, classifier.codes(facts), mentions, n_values))
