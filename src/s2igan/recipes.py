"""Named experiments.

A *base* recipe (`demo`, `birds`, `flowers`, `laptop`, `birds-rdg`, `birds-rdg-small`, `cub`, `oxford102`, `flickr8k`,
`places`) is a complete configuration. A *method* (`s2igan`, `no-dense`, ...) changes a base recipe whose stage 2 is the
paper's RDG into the row of the paper's table that it names. `s2igan train birds-rdg` trains the base recipe as it is;
`s2igan train no-rs --base birds-rdg` trains the method on it. Either runs on any prepared store.

Published figures are mAP / FID / IS of Wang et al. 2020 (docs/method.md section 6): higher, lower and higher are
better. Whatever a base recipe changes of the paper's method holds for every method on it, so that rows can be compared.
`s2igan train METHOD --base RECIPE --dry-run` prints the resolved configuration and what it takes.

Importing this module is cheap: what needs torch is imported when a recipe is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Literal

from s2igan.errors import UserError
from s2igan.run_directory import differences
from s2igan.training.recipe import LatentFlow, Recipe, TrainingSet

if TYPE_CHECKING:
    from s2igan.training.rdg import RDGConfig

BIRDS, FLOWERS = TrainingSet(images=1920, classes=120), TrainingSet(images=768, classes=48)
METHODS_ON = "birds-rdg"
"""The base recipe that a method changes unless another is named."""


def demo() -> Recipe:
    """A first look in about nine minutes of training on two cores: the built-in birds by latent flow at 64 px."""
    recipe = birds(size=64)
    sen, flow = recipe.sen, recipe.latent_flow
    assert flow is not None
    return replace(
        recipe,
        name="demo",
        sen=replace(sen, trainer=replace(sen.trainer, steps=450)),
        latent_flow=LatentFlow(
            replace(flow.autoencoder, trainer=replace(flow.autoencoder.trainer, steps=500)),
            replace(flow.matchmap, trainer=replace(flow.matchmap.trainer, steps=300)),
            replace(
                flow.flow,
                trainer=replace(flow.flow.trainer, steps=2200),
                views=4,
                network=replace(
                    flow.flow.network, width=192, depth=4, heads=3, outer_width=96, outer_depth=1, outer_heads=3
                ),
                ema_decay=0.998,
            ),
        ),
    )


def birds(size: int = 256) -> Recipe:
    """The built-in birds by latent flow at 256 px: by estimate two and a half hours on two cores.

    Stage 1 is the paper's at small widths. Stage 2 is not in the paper (docs/method.md, section 9): an autoencoder of
    the pictures, word embeddings by matchmaps, and a rectified flow in the latents that attends to them.
    """
    from s2igan.models.autoencoder import AutoencoderConfig
    from s2igan.training.autoencoder import AutoencoderTraining
    from s2igan.training.decoder import DecoderTraining
    from s2igan.training.flow import FlowTraining
    from s2igan.training.matchmap import MatchmapTraining
    from s2igan.training.small_sen import small_sen
    from s2igan.training.trainer import TrainerConfig

    def trainer(steps: int, evaluate_every: int) -> TrainerConfig:
        return TrainerConfig(steps=steps, evaluate_every=evaluate_every, precision="auto")

    small = size == 64
    widths = (24, 48, 96, 128) if small else (64, 128, 192, 256)
    flow = FlowTraining(trainer(20000, 2000))
    latent_flow = LatentFlow(
        AutoencoderTraining(trainer(2500, 500), network=AutoencoderConfig(size, widths=widths)),
        MatchmapTraining(trainer(700, 100)),
        flow if small else replace(flow, time_mean=-1.6, shift=4.0, views=8, guidance=6.0),
        None if small else DecoderTraining(trainer(2500, 500)),
    )
    return Recipe("birds", small_sen(size), latent_flow=latent_flow, training_set=BIRDS)


def flowers() -> Recipe:
    """The built-in flowers by latent flow at 256 px: by estimate an hour and a half on two cores.

    As `birds`, with fewer steps where there are fewer species to learn: 48 are for training, with 768 pictures. Of
    1,200 steps of stage 1, tried at 64 px, those after 800 found no better weights; the other numbers are estimates.
    """
    recipe = birds()
    sen, flow = recipe.sen, recipe.latent_flow
    assert flow is not None
    return replace(
        recipe,
        name="flowers",
        sen=replace(sen, trainer=replace(sen.trainer, steps=800)),
        latent_flow=replace(
            flow,
            matchmap=replace(flow.matchmap, trainer=replace(flow.matchmap.trainer, steps=500)),
            flow=replace(flow.flow, trainer=replace(flow.flow.trainer, steps=14000)),
        ),
        training_set=FLOWERS,
    )


def laptop() -> Recipe:
    """People's own pictures by latent flow at 128 px: as `birds`, with half of the flow's steps."""
    recipe = birds(size=128)
    flow = recipe.latent_flow
    assert flow is not None
    shorter = replace(flow.flow, trainer=replace(flow.flow.trainer, steps=10000))
    return replace(recipe, name="laptop", latent_flow=replace(flow, flow=shorter), training_set=None)


def birds_rdg() -> Recipe:
    """The built-in birds by the paper's RDG at 16, 32 and 64 px.

    Its networks and losses at smaller widths. What steadies them is beyond the paper (docs/training.md); so are
    distorted speech in stage 1 and image features that are encoded once.
    """
    from s2igan.models.generator import GeneratorConfig
    from s2igan.training.beyond import Beyond, ConditionStart, InUse, NoisePenalty, Translation, WarmStart
    from s2igan.training.rdg import RDGConfig
    from s2igan.training.small_sen import small_sen
    from s2igan.training.trainer import TrainerConfig

    sen = small_sen(64)
    rdg = RDGConfig(
        trainer=TrainerConfig(steps=1124, evaluate_every=250, precision="auto"),
        generator=GeneratorConfig(
            embedding=sen.speech.embedding, condition=64, z=64, width=64, resolutions=(16, 32, 64)
        ),
        discriminator_width=32,
        batch_size=16,
        discriminator_learning_rate=4e-4,
        generator_warmup_steps=200,
        ema_decay=0.995,
        kl=0.02,
        image_views=4,
    )
    beyond = Beyond(
        ConditionStart(gain=32.0, logvar=-3.0),
        WarmStart(TrainerConfig(steps=1000, evaluate_every=200, precision="auto")),
        NoisePenalty(weight=0.002),
        Translation(share=0.125),
        InUse(calibrate_batch_norm=True),
    )
    return Recipe("birds-rdg", sen, rdg, beyond=beyond, training_set=BIRDS)


def birds_rdg_small() -> Recipe:
    """As `birds-rdg`, of half the width and in half of the time: for tables of many rows.

    Batches are twice as large, since steps of so narrow networks cost as much for 16 pictures as for many more. The
    warm start is twice as long: so narrow a generator keeps the shapes that it brings along, and finds no others.
    """
    recipe = birds_rdg()
    rdg, beyond = _rdg(recipe), recipe.beyond
    return replace(
        recipe,
        name="birds-rdg-small",
        sen=replace(recipe.sen, trainer=replace(recipe.sen.trainer, steps=600)),
        rdg=replace(
            rdg,
            trainer=replace(rdg.trainer, steps=800),
            generator=replace(rdg.generator, width=32),
            discriminator_width=16,
            batch_size=32,
        ),
        beyond=replace(
            beyond,
            warm_start=replace(beyond.warm_start, trainer=replace(beyond.warm_start.trainer, steps=2000)),
        ),
    )


def cub() -> Recipe:
    """CUB-200-2011 at 64, 128 and 256 px with the paper's hyper-parameters (method.md sections 3 and 4); for a GPU.

    Inception-v3 encodes the images. Where paper and reference differ the choices are those of method.md section 8.
    """
    from s2igan.training.rdg import RDGConfig
    from s2igan.training.sen import SENConfig
    from s2igan.training.trainer import TrainerConfig

    sen = SENConfig(trainer=TrainerConfig(epochs=150, evaluate_every=350))
    rdg = RDGConfig(trainer=TrainerConfig(epochs=600, evaluate_every=5000, checkpoint_seconds=1800))
    return Recipe("cub", sen, rdg, training_set=TrainingSet(images=8855, classes=150))


def oxford102() -> Recipe:
    """Oxford-102 flowers: the paper's hyper-parameters, which are those of `cub`; for a GPU."""
    return replace(cub(), name="oxford102", training_set=TrainingSet(images=7034, classes=82))


def flickr8k() -> Recipe:
    """Flickr8k with natural speech: as `cub`, but stage 1 at a tenth of the rate, batch 32, 120 epochs; for a GPU.

    The set has no classes: every image is its own, and there is neither distinctive loss nor identical relation
    (method.md section 5).
    """
    recipe = cub()
    sen = replace(recipe.sen, learning_rate=1e-4, batch_size=32, trainer=replace(recipe.sen.trainer, epochs=120))
    return replace(recipe, name="flickr8k", sen=sen, training_set=TrainingSet(images=6000, classes=0))


def places() -> Recipe:
    """Places Audio with natural speech: the hyper-parameters of `flickr8k`; for a GPU."""
    return replace(flickr8k(), name="places", training_set=None)


def s2igan(base: Recipe) -> Recipe:
    """The paper's method: the base recipe as it is.

    Table 1: CUB 9.04 / 14.50 / 4.29, Oxford-102 13.40 / 48.64 / 3.55.
    s2igan train s2igan --base cub --data DATA --out RUN
    """
    return base


def stackgan_v2_speech(base: Recipe) -> Recipe:
    """StackGAN-v2 on the SEN's embeddings: neither dense link nor relation supervisor.

    Table 1: CUB 8.09 / 18.94 / 4.14, Oxford-102 12.18 / 54.33 / 3.69. Give it the embeddings of the row that it is
    compared with:
    s2igan train stackgan-v2-speech --base cub --data DATA --out RUN --sen-from S2IGAN-RUN
    """
    return no_rs(no_dense(base))


def stackgan_v2_text(base: Recipe) -> Recipe:
    """StackGAN-v2 on a text embedding in place of speech.

    Table 1: CUB 7.01 / 20.94 / 4.02, Oxford-102 9.88 / 50.38 / 3.35. The text embedding is a character CNN-RNN that
    stage 1 trains on the captions by the losses of the SEN, so that it can be had on any set with captions;
    `stackgan-v2-text-reed` has the paper's. The model reads text: `s2igan evaluate` scores it, `s2igan generate`
    refuses it.
    s2igan train stackgan-v2-text --base cub --data DATA --out RUN
    """
    from s2igan.models.text_encoder import TextEncoderConfig
    from s2igan.training.augment import SpeechAugment

    speech = base.sen.speech
    text = TextEncoderConfig(embedding=speech.embedding, normalize_pooled=speech.normalize_pooled)
    return replace(stackgan_v2_speech(base), sen=replace(base.sen, speech=text, augment=SpeechAugment()))


def stackgan_v2_text_reed(base: Recipe) -> Recipe:
    """StackGAN-v2 on the text embeddings that the paper took: char-CNN-RNN, by Reed et al.

    Table 1: CUB 7.01 / 20.94 / 4.02, Oxford-102 9.88 / 50.38 / 3.35. `s2igan prepare cub --text-embeddings` (or
    oxford102) keeps the embeddings of a StackGAN pack beside the store. They are frozen and brought to unit length
    (`models/precomputed.py` says why), so that stage 1 trains the image head alone, to meet them by the losses of the
    SEN: nothing but scores of stage 1 needs it. Evaluation works as with `stackgan-v2-text`, and so does the refusal of
    `s2igan generate`.
    s2igan train stackgan-v2-text-reed --base cub --data DATA --out RUN
    """
    from s2igan.models.precomputed import PrecomputedConfig
    from s2igan.training.augment import SpeechAugment

    text = PrecomputedConfig(normalize_pooled=base.sen.speech.normalize_pooled)
    method, n = stackgan_v2_speech(base), text.embedding
    return replace(
        method,
        sen=replace(base.sen, speech=text, image=replace(base.sen.image, embedding=n), augment=SpeechAugment()),
        rdg=replace(_rdg(method), generator=replace(_rdg(method).generator, embedding=n)),
    )


def li2020(base: Recipe) -> Recipe:
    """Li et al. 2020: StackGAN-v2 on a speech encoder that image features teach.

    Table 1: CUB - / 18.37 / 4.09, Oxford-102 - / 54.76 / 3.23. Stage 1 trains a CNN with a bidirectional LSTM by
    distillation from the frozen image encoder (method.md section 7).
    s2igan train li2020 --base cub --data DATA --out RUN
    """
    from s2igan.models.li2020 import CnnLstmConfig

    hidden = base.sen.speech.embedding // 2
    speech = CnnLstmConfig(width=max(1, hidden // 8), hidden=hidden, normalize_pooled=base.sen.speech.normalize_pooled)
    return replace(stackgan_v2_speech(base), sen=replace(base.sen, speech=speech, objective="distillation"))


def no_dense(base: Recipe) -> Recipe:
    """Ablation: no dense link, the one from h_{i-1} to the up-block of stage i.

    CUB 8.66 / 17.58 / 4.19.
    s2igan train no-dense --base cub --data DATA --out RUN --sen-from S2IGAN-RUN
    """
    return replace(base, rdg=replace(_rdg(base), generator=replace(_rdg(base).generator, dense="none")))


def no_rs(base: Recipe) -> Recipe:
    """Ablation: no relation supervisor.

    CUB 8.54 / 15.59 / 4.14.
    s2igan train no-rs --base cub --data DATA --out RUN --sen-from S2IGAN-RUN
    """
    return replace(base, rdg=replace(_rdg(base), relation=0.0))


def no_sen(base: Recipe) -> Recipe:
    """Ablation: no stage 1; the speech encoder starts at random and is trained by the GAN alone.

    CUB 2.91 / 19.56 / 3.49. Stage 1 takes no step. The relation supervisor sees the frozen image features, reduced to
    their principal components, since there is no trained image embedding.
    s2igan train no-sen --base cub --data DATA --out RUN
    """
    untrained = replace(base.sen, objective="distillation", trainer=replace(base.sen.trainer, steps=0, epochs=None))
    return replace(_with_speech_training(base, "scratch"), sen=untrained)


def end_to_end(base: Recipe) -> Recipe:
    """Ablation: the speech encoder, trained by stage 1, is trained on with the GAN.

    CUB 7.38 / 21.54 / 4.29.
    s2igan train end-to-end --base cub --data DATA --out RUN --sen-from S2IGAN-RUN
    """
    return _with_speech_training(base, "finetuned")


def _with_speech_training(base: Recipe, speech: Literal["scratch", "finetuned"]) -> Recipe:
    return replace(base, rdg=replace(_rdg(base), speech=speech))


def _rdg(base: Recipe) -> RDGConfig:
    assert base.rdg is not None  # `resolve` takes no other
    return base.rdg


def no_distinctive(base: Recipe) -> Recipe:
    """Ablation: stage 1 without the distinctive loss (Eq. 5).

    CUB 6.80 / 16.66 / 4.19; SEN mAP 23.68 instead of 24.24.
    s2igan train no-distinctive --base cub --data DATA --out RUN
    """
    return replace(base, sen=replace(base.sen, distinctive=0.0))


BASES: dict[str, Callable[[], Recipe]] = {
    base.__name__.replace("_", "-"): base
    for base in (demo, birds, flowers, laptop, birds_rdg, birds_rdg_small, cub, oxford102, flickr8k, places)
}
METHODS: dict[str, Callable[[Recipe], Recipe]] = {
    method.__name__.replace("_", "-"): method
    for method in (
        s2igan,
        stackgan_v2_speech,
        stackgan_v2_text,
        stackgan_v2_text_reed,
        li2020,
        no_dense,
        no_rs,
        no_sen,
        end_to_end,
        no_distinctive,
    )
}
RECIPES: dict[str, Callable[..., Recipe]] = {**BASES, **METHODS}


def resolve(name: str, base: str | None = None) -> Recipe:
    """The complete configuration of a recipe.

    Args:
        name: a base recipe, or a method.
        base: the base recipe that a method changes; `METHODS_ON` unless given.

    Raises:
        UserError: a name is unknown, a base was given for a recipe that is one itself, or a method for a base whose
            stage 2 is not the paper's.
    """
    if name in BASES:
        if base not in (None, name):
            raise UserError(
                f"The recipe {name} is a base recipe itself; leave --base out, or name a method in place of {name}."
            )
        return BASES[name]()
    if name not in METHODS:
        raise UserError(f"There is no recipe {name!r}; choose one of {', '.join(RECIPES)}.")
    if base is not None and base not in BASES:
        raise UserError(f"There is no base recipe {base!r}; choose one of {', '.join(BASES)}.")
    base = base or METHODS_ON
    complete = BASES[base]()
    if complete.rdg is None:
        raise UserError(
            f"{name} changes the paper's RDG, and the stage 2 of {base} is latent flow; choose --base {METHODS_ON}."
        )
    return replace(METHODS[name](complete), name=f"{name} ({base})")


def groups(recipe: Recipe) -> dict[str, Any]:
    """The hyper-parameters of a recipe: the configurations of its stages by name."""
    if recipe.latent_flow is not None:
        flow = recipe.latent_flow
        parts = {"autoencoder": flow.autoencoder, "decoder": flow.decoder, "matchmap": flow.matchmap}
        return {"sen": recipe.sen} | {k: v for k, v in parts.items() if v is not None} | {"flow": flow.flow}
    return {"sen": recipe.sen, "rdg": recipe.rdg, "beyond": recipe.beyond}


def customised(recipe: Recipe, settings: dict[str, Any]) -> Recipe:
    """A recipe with other hyper-parameters, which its name then lists: "birds, flow.batch_size 48".

    The image embedding and the generator's input follow the dimensions of the speech embedding, and the pictures of
    stage 1 the size of those that latent flow draws, unless they were changed too.

    Args:
        settings: configurations by name, as `groups` gives them.

    Raises:
        UserError: the dimensions of the embeddings differ, or a value fits neither the others nor the data.
    """
    from s2igan.audio import N_MELS

    sen = settings["sen"]
    n = sen.speech.embedding
    if (bands := getattr(sen.speech, "n_mels", N_MELS)) != N_MELS:
        raise UserError(f"--sen.speech.n-mels {bands}: every prepared recording has {N_MELS} bands; leave it out.")
    if sen.image.embedding == recipe.sen.image.embedding:
        sen = replace(sen, image=replace(sen.image, embedding=n))
    if recipe.latent_flow is not None:
        side, size = recipe.latent_flow.autoencoder.network.size, settings["autoencoder"].network.size
        if side == recipe.sen.image_size == sen.image_size:
            sen = replace(sen, image_size=size)
    settings = {**settings, "sen": sen}
    readers = {"--sen.image.embedding": sen.image.embedding}
    if recipe.rdg is not None:
        rdg = settings["rdg"]
        if rdg.generator.embedding == recipe.rdg.generator.embedding:
            settings["rdg"] = rdg = replace(rdg, generator=replace(rdg.generator, embedding=n))
        readers["--rdg.generator.embedding"] = rdg.generator.embedding
    if wrong := [f"{flag} {found}" for flag, found in readers.items() if found != n]:
        raise UserError(
            f"speech embeddings have {n} dimensions, which does not fit {' and '.join(wrong)}; set each to {n}, or "
            "leave it out."
        )
    old, new = ({name: asdict(group) for name, group in of.items()} for of in (groups(recipe), settings))
    changed = [f"{name} {value}" for name, _, value in differences(old, new)]
    name = ", ".join([recipe.name, *changed])
    if recipe.latent_flow is None:
        return replace(recipe, name=name, **settings)
    return replace(recipe, name=name, sen=settings.pop("sen"), latent_flow=LatentFlow(**settings))
