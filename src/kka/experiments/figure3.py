"""Figure 3: the generated anomalies of each iteration, hard ones framed.

    kka experiment figure3 --dataset oxford102

Needs the pool of one task (seed 0), made if it is not there (minutes at scale `cpu`). Expected: pictures of later
rounds are more like the normals, and more of them are hard.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kka.algorithm.folder import RunFolder
from kka.experiments.engine.cell_task import open_cell_task
from kka.experiments.engine.cells import Row
from kka.experiments.engine.drawing import COLOURS, figure
from kka.experiments.engine.experiment import Experiment
from kka.experiments.engine.place import Place
from kka.experiments.engine.plan import Plan
from kka.experiments.engine.pools import ensure_pool
from kka.protocols import Images

SHOWN = 12


def draw(plan: Plan, place: Place, rows: Sequence[Row], folder: Path) -> list[Path]:
    """One PNG for each data set: its first task, normals above, then what each round generated."""
    paths = []
    for name in plan.datasets:
        task_name = plan.first_task(name)
        cell = plan.cell(name, task_name, "sad", "rep-1", 0)
        task = open_cell_task(cell, place.data)
        out = ensure_pool(cell, task, place.data, place.work)
        lines = [("normals", task.normals, np.zeros(len(task.normals), dtype=bool))]
        made = RunFolder(out)
        lines += [(f"round {number}", *_generated(made, number)) for number in range(made.last_round + 1)]
        paths.append(folder / f"figure3-{name}.png")
        _grid(paths[-1], lines)
    return paths


def _generated(made: RunFolder, number: int) -> tuple[Images, np.ndarray]:
    """What round `number` generated, and which of it is hard."""
    pool, hard = made.fresh(number), made.fresh_hard(number)
    return pool.images, np.zeros(len(pool), dtype=bool) if hard is None else hard


def _grid(path: Path, lines: list[tuple[str, Images, np.ndarray]]) -> None:
    with figure(path, width=7.2, height=0.68 * len(lines), rows=len(lines), columns=SHOWN) as (_, axes):
        for row, (title, images, hard) in enumerate(lines):
            chosen = np.random.default_rng(0).permutation(len(images))[:SHOWN]
            for axis in axes[row]:
                axis.set_axis_off()
            for axis, i in zip(axes[row], chosen, strict=False):
                axis.set_axis_on()
                axis.imshow(images[i])
                axis.set(xticks=[], yticks=[])
                for spine in axis.spines.values():
                    spine.set(visible=bool(hard[i]), color=COLOURS["hard"], linewidth=2.0)
            share = "" if title == "normals" else f"\n{100 * hard.mean():.0f} % hard"
            axes[row][0].set_axis_on()
            axes[row][0].set_ylabel(title + share, rotation=0, ha="right", va="center", fontsize=8)


EXPERIMENT = Experiment(draw=draw)
