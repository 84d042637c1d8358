"""How well the attribute classifier reads real pictures, the ceiling of the attribute scores; prints one JSON object.

    python benchmarks/attribute_ceiling.py DATA [--split test]

Trains the classifier of `s2igan evaluate` with its settings, or takes the one in the user's cache folder. `pictures`
is its accuracy on all real pictures of the split, each asked for every attribute; `asked` is the ceiling in
`metrics.json`, where a picture is asked for what a caption names; `held_out` is its accuracy on drawings with random
attributes; `confused` are the errors on real pictures that are most frequent: drawn, taken for, how often.
"""

import argparse
import json
from collections import Counter
from pathlib import Path

import numpy as np

from s2igan.data.dataset import crop_and_flip
from s2igan.data.store import Store
from s2igan.evaluation.attributes import attribute_accuracy, load_or_train_classifier
from s2igan.evaluation.drawings import drawn_set_with
from s2igan.evaluation.evaluation_split import EvaluationSplit

MAX_CAPTIONS = 1000  # as `evaluate` takes them
CONFUSED = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0, help="of the captions, as in s2igan evaluate")
    options = parser.parse_args()

    store = Store.open(options.data)
    split = EvaluationSplit.of(store, options.split)
    drawing = drawn_set_with(store.attributes)
    if drawing is None:
        raise SystemExit(f"{options.data}: holds no pictures that this package draws.")
    classifier = load_or_train_classifier(drawing)

    seen = classifier.predict(crop_and_flip(store.images[split.images], store.image_size, None))
    truths = classifier.codes([store.image_attributes(int(image)) for image in split.images])
    captions = np.random.default_rng([options.seed, 0xCA9]).permutation(split.utterances)[:MAX_CAPTIONS]
    row = np.searchsorted(split.images, store.image_index[captions])
    asked = attribute_accuracy(
        {name: codes[row] for name, codes in seen.items()},
        {name: codes[row] for name, codes in truths.items()},
        [store.mentions(int(caption)) for caption in captions],
        {name: len(values) for name, values in classifier.attributes.items()},
    )
    table = {}
    for name, values in classifier.attributes.items():
        wrong = Counter((values[t], values[p]) for t, p in zip(truths[name], seen[name], strict=True) if t != p)
        table[name] = {
            "pictures": round(float((seen[name] == truths[name]).mean()), 4),
            "asked": round(asked[name].accuracy, 4) if name in asked else None,
            "n": asked[name].n if name in asked else 0,
            "chance": round(1 / len(values), 4),
            "held_out": round(classifier.record["held_out_accuracy"][name], 4),
            "confused": [[*pair, count] for pair, count in wrong.most_common(CONFUSED)],
        }
    facts = {"set": drawing.name, "split": options.split, "side": store.image_size, "images": len(split.images)}
    seconds = {key: classifier.record[key] for key in ("drawing_seconds", "training_seconds")}
    print(json.dumps({**facts, "captions": len(captions), **seconds, "attributes": table}, indent=2))


if __name__ == "__main__":
    main()
