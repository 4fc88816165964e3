"""The card of a data set: what it holds, how it was made, by which models, under which licences, and a few examples."""

from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from kka import __version__
from kka.exchange.licences import licence_of
from kka.exchange.source import Exported

EXAMPLES = 8
SHEET = "examples.png"
DRAWN = "**None of them shows anything real.**"
ALTERED = (
    "**They are photos of normals with a defect that is not real**: outside of its mask, each is the photo that was "
    "altered."
)
TEXT = """# {title}

{pictures} pictures of imagined anomalies ({domain}), {side} pixels a side, made by Key Knowledge Augmentation
(kka {version}). {real} A language model read captions of normal pictures and wrote
captions of plausible anomalies; an image model {made} them; a confusion evaluator (Deep SAD) told hard ones, which are
easily taken for normals, from easy ones.

Meant for training anomaly detectors, beside real normals, which are not in it. Figures on these pictures are no figures
of real anomalies.

![examples]({sheet})

{examples}

## What stands in a row

| column | |
|---|---|
| `image` | the picture |
{mask}| `text` | the caption that it was drawn from |
| `id`, `round` | its name, and the round of the algorithm that made it |
| `relative_distance`, `hard` | how far the evaluator placed it from the normals: below 1 is hard; empty: not judged |
| `prompt`, `seed` | what the language model was asked, and the seed of the picture |
| `language_model`, `image_model` | what wrote and drew it |

## How it was made

| | |
|---|---|
| run | `{run}`, after round {round} of {rounds}{unfinished} |
| language model | `{language}` |
| image model | `{images}` |
| pictures by round | {by_round} |
| hard | {hard} of {judged} judged |
| settings | mode {mode}, {initial} pictures at first, {fresh} a round, seed {seed} |

## Licences

| | |
|---|---|
| language model `{language}` | {language_licence} |
| image model `{images}` | {images_licence} |

kka gives the pictures no licence of its own. Whoever shares them says which, by these models' terms{photos}.
"""


def text(exported: Exported) -> str:
    """The card's text, in Markdown."""
    pool, config, models = exported.pool, exported.config, exported.models
    by_round = Counter(entry.round for entry in pool.entries)
    judged = int(np.isfinite(pool.relative).sum())
    shown = _examples(exported)
    examples = "\n".join(
        f"{n}. {_plain(pool.entries[i].caption)} ({_hardness(pool.relative[i])})" for n, i in enumerate(shown, start=1)
    )
    return TEXT.format(
        title=title(exported), pictures=f"{len(pool):,}", domain=exported.domain, side=pool.images.shape[1],
        real=ALTERED if exported.masks else DRAWN, made="painted" if exported.masks else "drew", version=__version__,
        sheet=SHEET, examples=examples, run=exported.run, round=exported.round,
        rounds=config.rounds,
        unfinished="" if exported.finished else " (the run was not finished)", language=models["language"],
        images=models["images"], by_round=", ".join(f"{n}: {by_round[n]:,}" for n in sorted(by_round)),
        hard=f"{int(pool.hard.sum()):,}", judged=f"{judged:,}", mode=config.mode, initial=config.initial,
        fresh=config.fresh, seed=config.seed, language_licence=licence_of(models["language"]),
        images_licence=licence_of(models["images"]),
        mask="| `mask` | where the normal was altered: 0 not at all, up to 255 |\n" if exported.masked else "",
        photos=" and those of the photos that were altered" if exported.masks else "",
    )  # fmt: skip


def head(exported: Exported) -> dict[str, Any]:
    """What stands at the head of the card, for the hub: no licence, which is not kka's to give."""
    count = len(exported.pool)
    bounds = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
    return {
        "pretty_name": title(exported),
        "task_categories": ["image-classification"],
        "tags": ["anomaly-detection", "synthetic", "kka"],
        "size_categories": [next((name for bound, name in bounds if count < bound), "1M<n<10M")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*.parquet"}]}],
    }


def title(exported: Exported) -> str:
    """Its name for people."""
    return f"Imagined anomalies: {exported.run}"


def sheet(exported: Exported) -> Image.Image:
    """The examples in a row."""
    images = exported.pool.images[_examples(exported)]
    page = np.full((images.shape[1], (images.shape[2] + 4) * len(images) - 4, 3), 255, np.uint8)
    for number, image in enumerate(images):
        left = number * (images.shape[2] + 4)
        page[:, left : left + images.shape[2]] = image
    return Image.fromarray(page)


def _examples(exported: Exported) -> list[int]:
    """The places of a few pictures, from the hardest to the easiest."""
    order = np.argsort(exported.pool.relative, kind="stable")
    places: list[int] = order[np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int)].tolist()
    return places


def _hardness(relative: float) -> str:
    return f"{'hard' if relative < 1 else 'easy'}, {relative:.2f}" if np.isfinite(relative) else "not judged"


def _plain(caption: str) -> str:
    """As text, whatever it holds: no markup, no markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+!|<>" else c for c in " ".join(caption.split()))
