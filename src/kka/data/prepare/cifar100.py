"""CIFAR-100 from its official binary version: one byte superclass, one byte class, 3072 bytes of pixels a picture.

The python version, which torchvision reads, is a pickle; pickles can run code and are never loaded here. Both hold
the same pictures. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
"""

from pathlib import Path
from typing import Literal

import numpy as np

from kka.data.prepare.download import Download
from kka.data.prepare.names import with_article
from kka.data.prepare.options import PrepareOptions
from kka.data.prepare.records import DataSet, Found, Record, locate, unpack, verify
from kka.errors import UserError

TREE = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
"""Superclass -> its classes. Labels number both in alphabetical order."""
FINE = tuple(sorted(name for names in TREE.values() for name in names.split()))
COARSE = {FINE.index(name): (i, coarse) for i, coarse in enumerate(sorted(TREE)) for name in TREE[coarse].split()}
SIDE = 32
ROW = 2 + 3 * SIDE * SIDE
ARCHIVE = Download(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", md5="03b5dce01913d631647c71ecec9e9cb8"
)


def find(dataset: DataSet, folder: Path, work: Path, options: PrepareOptions) -> Found:
    """The pictures of `train.bin` and `test.bin`, or of the archive that holds them, sorted by class."""
    archive = locate(folder, ARCHIVE.name)
    binary = locate(folder, "train.bin")
    facts: list[dict[str, str]] = []
    faults: list[str] = []
    if binary is None and archive is not None:
        facts, faults = verify([archive], dataset.downloads)
        binary = locate(unpack(archive, work), "train.bin")
    if binary is None:
        python = locate(folder, "cifar-100-python", "cifar-100-python.tar.gz")
        why = f" {python} is the python version, a pickle, and pickles are never loaded." if python else ""
        raise UserError(f"expected {ARCHIVE.name}, or train.bin and test.bin, in {folder}; found neither.{why} {WHERE}")
    records: list[Record] = []
    sides: tuple[Literal["train", "test"], ...] = ("train", "test")
    for side in sides:
        file = binary.with_name(f"{side}.bin")
        if not file.is_file():
            faults.append(f"{file} is missing")
            continue
        if not facts or facts[0]["file"] != ARCHIVE.name:
            facts += verify([file], ())[0]
        records += _read(file, side)
    faults += _wrong_names(binary.parent)
    records.sort(key=lambda r: (r.side != "train", r.label))
    return Found(records=records, source={"files": facts}, faults=tuple(faults))


def _read(file: Path, side: Literal["train", "test"]) -> list[Record]:
    """The file stays on disk; each record's pixels are read from it when they are asked for."""
    size = file.stat().st_size
    if size == 0 or size % ROW:
        raise UserError(f"{file}: expected a multiple of {ROW} bytes, {ROW} a picture; got {size:,}. {WHERE}")
    rows = np.memmap(file, np.uint8, "r").reshape(-1, ROW)
    labels = np.array(rows[:, :2])
    bad = [i for i, (coarse, fine) in enumerate(labels.tolist()) if COARSE.get(fine, (None,))[0] != coarse]
    if bad:
        coarse, fine = labels[bad[0]].tolist()
        raise UserError(f"{file}: picture {bad[0]} is of superclass {coarse} and class {fine}, which disagree. {WHERE}")

    def pixels(i: int) -> np.ndarray:
        return np.ascontiguousarray(rows[i, 2:].reshape(3, SIDE, SIDE).transpose(1, 2, 0))

    return [
        Record(name=f"{side}_{i:05d}.bin", label=fine, side=side, load=lambda i=i: pixels(i))  # type: ignore[misc]
        for i, fine in enumerate(labels[:, 1].tolist())
    ]


def _wrong_names(folder: Path) -> list[str]:
    """The name files, where they are there, must give the order of classes that the labels mean."""
    faults = []
    for name, expected in (("fine", FINE), ("coarse", tuple(sorted(TREE)))):
        file = folder / f"{name}_label_names.txt"
        if file.is_file() and tuple(file.read_text(encoding="utf-8").split()) != expected:
            faults.append(f"{file} does not list the {len(expected)} known names in their order")
    return faults


WHERE = (
    f"Get the binary version, {ARCHIVE.name}, from https://www.cs.toronto.edu/~kriz/cifar.html and give the folder it "
    "lies in with --from."
)
PHRASES = {"cattle": "cattle"}
CIFAR100 = DataSet(
    name="cifar100",
    label_names=FINE,
    first_label=0,
    size=SIDE,
    encoding="webp",
    splits=("official",),
    train_share=5 / 6,
    expected={"train": 500, "test": 100},
    total=60_000,
    downloads=(ARCHIVE,),
    where=WHERE,
    find=find,
    captions=lambda label: f"a photo of {PHRASES.get(FINE[label]) or with_article(FINE[label])}",
    coarse=COARSE,
)
