"""What is asked of an experiment: data sets, tasks, seeds, scale."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from kka.experiments.engine.cells import Cell, has_backbone
from kka.experiments.engine.tasks import Protocol, Scale, dataset


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cells of an experiment are a function of this."""

    datasets: tuple[str, ...]
    chosen: tuple[str, ...] = ()
    """Tasks; none given: the reported ones."""
    seeds: Sequence[int]
    split_seed: int = 0
    """Of the choice of the withheld classes."""
    scale: Scale
    protocol: Protocol
    backbone: str
    """The name of the backbone, for the detectors that have one."""
    loop: tuple[str, ...] = ()
    """Settings of every pool's run, as name=value: its models among them."""
    own: tuple[str, ...] = ()
    """A person's own detectors, by the paths of their classes: beside ours in table2."""

    def tasks(self) -> list[tuple[str, str]]:
        """(data set, task)."""
        return [(name, task) for name in self.datasets for task in self.chosen or dataset(name).reported]

    def first_task(self, name: str) -> str:
        """The task of a data set that a figure of one task shows."""
        return (self.chosen or dataset(name).reported)[0]

    def cell(self, name: str, task: str, detector: str, arm: str, seed: int, variant: str = "") -> Cell:
        cell = Cell(
            dataset=name, normal=task, detector=detector, arm=arm, seed=seed, protocol=self.protocol, scale=self.scale,
            backbone=self.backbone if has_backbone(detector) else "", split_seed=self.split_seed,
        )  # fmt: skip
        if not cell.needs_pool:
            return cell
        return dataclasses.replace(cell, variant=",".join([*self.loop, *filter(None, [variant])]))
