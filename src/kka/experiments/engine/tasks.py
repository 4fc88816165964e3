"""The data sets of the paper, the tasks made of them, and what each scale of an experiment means."""

from dataclasses import dataclass, field
from typing import Literal

from kka.data.prepare.cifar100 import TREE
from kka.errors import UserError, unknown
from kka.garden.tasks import NORMALS

Scale = Literal["full", "cpu", "smoke"]
Protocol = Literal["withheld", "paper"]
"""withheld: half of the anomaly classes are unknown to language model and image bank (seen and unseen AUROC apart).
paper: every anomaly class may be known."""


TEXTURES = "textures"
"""Generated ones, in the place of another data set."""


@dataclass(frozen=True, kw_only=True)
class Other:
    """What stands for "something else altogether" beside a data set: training pictures of another one."""

    name: str = TEXTURES
    without: tuple[str, ...] = ()
    """Its classes that are too like the first one's, as a task names them."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set and its tasks. A task is written as its normal classes, joined by "+"."""

    name: str
    title: str
    reported: tuple[str, ...]
    """The tasks of the tables. The published one stands first where labels allow."""
    tuning: tuple[str, ...]
    """Tasks apart from those reported: settings are chosen on these alone."""
    every: tuple[str, ...] = ()
    """All tasks of the published kind, where there are not too many to name."""
    single: tuple[str, ...] = ()
    """Table IV: one class normal, all others anomalous."""
    rounds: int
    """Rounds of the paper's Table II."""
    initial: int
    fresh: int
    per_round: int
    language_steps: int = 400
    """Training steps of the small language model."""
    common_language_model: bool
    """One language model for all tasks, trained on the captions of the classes that every one of them may know; or
    one for each task, where the classes in common would be too few."""
    epochs: int
    """Of SAD, as published."""
    cpu_epochs: int = 40
    """Of SAD, as evaluator and as detector, at scale cpu (at a learning rate three times the published)."""
    other: Other = Other()
    other_of_tasks: dict[str, Other] = field(default_factory=dict)
    """Task -> another, where `other` shows the task's own kind."""
    embedded: bool = False
    """Whether kka makes it itself, with a language model and an image model of its own: there are no files, and these
    models know every kind, so that nothing is withheld from them."""


DATASETS = {
    "oxford102": DataSet(
        name="oxford102", title="Oxford-102", reported=("26", "10", "46", "51", "77", "89", "17", "73"),
        tuning=("12", "60", "82", "94"), every=tuple(str(label) for label in range(1, 103)),
        rounds=2, initial=200, fresh=200, per_round=60,
        common_language_model=True, epochs=200, other=Other(name="cifar100", without=("coarse:flowers",)),
    ),
    "ucm_caption": DataSet(
        name="ucm_caption", title="UCM-Caption", reported=("19+20", "3+16", "8+17", "6+12", "1+10"),
        tuning=("5+7", "4+15"), rounds=2, initial=200, fresh=100, per_round=60,
        common_language_model=False, epochs=300, other=Other(name="cifar100"),
    ),
    "cifar100": DataSet(
        name="cifar100", title="CIFAR-100",
        reported=("coarse:household_furniture", "coarse:trees", "coarse:vehicles_1"), tuning=("coarse:flowers",),
        every=tuple(f"coarse:{name}" for name in TREE),
        single=("5", "47", "8", "3"), rounds=3, initial=1000, fresh=400, per_round=200,
        common_language_model=True, language_steps=200, epochs=150, cpu_epochs=15,
        other=Other(name="oxford102"),
        other_of_tasks=dict.fromkeys(("coarse:flowers", "54", "62", "70", "82", "92"), Other(name="ucm_caption")),
    ),
    "garden": DataSet(
        name="garden", title="Garden", reported=tuple(NORMALS), tuning=(), every=tuple(NORMALS),
        rounds=2, initial=200, fresh=200, per_round=60,
        common_language_model=True, epochs=200, cpu_epochs=25, embedded=True,
    ),
}  # fmt: skip


def chosen_tasks(names: tuple[str, ...], tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks that are asked for; "all" stands for every task of the one data set.

    Raises:
        UserError: all tasks of several data sets, or of one that has too many.
    """
    if tasks != ("all",):
        return tasks
    every = dataset(names[0]).every
    if len(names) > 1 or not every:
        able = ", ".join(name for name, known in DATASETS.items() if known.every)
        raise UserError(f"--tasks all: expected one --dataset of {able} with it; got {', '.join(names)}")
    return every


def dataset(name: str) -> DataSet:
    """The data set called `name`.

    Raises:
        UserError: unknown name.
    """
    if name not in DATASETS:
        raise unknown("data set", name, DATASETS)
    return DATASETS[name]


@dataclass(frozen=True, kw_only=True)
class ScaleSettings:
    """What a scale does to the detectors: their preset, and settings on top of it."""

    preset: str
    overrides: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """"setting=value" by detector, or by detector:dataset, which goes before it."""

    def settings(self, detector: str, name: str) -> tuple[str, ...]:
        """Those of a detector on a data set."""
        return self.overrides.get(f"{detector}:{name}", self.overrides.get(detector, ()))


SCALES: dict[str, ScaleSettings] = {
    "full": ScaleSettings(preset="published"),
    "cpu": ScaleSettings(
        preset="cpu",
        overrides={
            # 32-pixel pictures, 12,500 of them a task
            "simplenet:cifar100": ("size=64", "crop=64", "epochs=20"),
            "ssd:cifar100": ("epochs=5",),
            "cmda:cifar100": ("image_epochs=4", "generation_epochs=2"),
        },
    ),
    "smoke": ScaleSettings(
        preset="cpu",
        overrides={
            "sad": ("epochs=1",),
            "ssd": ("epochs=1",),
            "cmda": ("image_epochs=1", "generation_epochs=1"),
            "simplenet": ("epochs=1",),
            "recontrast": ("iterations=3",),
        },
    ),
}


def classes(normal: str) -> tuple[str, ...]:
    """The normal classes of a task: "19+20" -> ("19", "20")."""
    parts = tuple(part.strip() for part in normal.split("+"))
    if not all(parts):
        raise UserError(f"task: expected normal classes joined by +, such as 19+20; got {normal!r}")
    return parts
