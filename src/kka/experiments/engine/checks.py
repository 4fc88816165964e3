"""What can be wrong with an experiment's parts, looked for before its first cell: models, prompt, weights."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from kka.algorithm.prompts import resolve_template
from kka.experiments.engine.cells import Cell
from kka.experiments.engine.compute import build
from kka.experiments.engine.place import Place
from kka.experiments.engine.pools import pool_config
from kka.run.models import AUTO, check_classes, check_models, check_weights


def check_parts(cells: Sequence[Cell], place: Place) -> None:
    """Each kind of detector once, and the models of each kind of pool.

    Raises:
        UserError: a model or weights that cannot be had; a prompt without {caption}; an image model that knows a
            task's normal class or a withheld one.
    """
    pools = {(cell.variant, cell.scale): cell for cell in cells if cell.needs_pool}
    for cell in pools.values():
        config = pool_config(cell, place.data, place.work)
        resolve_template(config.prompt)
        named = any(setting.startswith("lm=") for setting in cell.variant.split(","))
        check_models((config.lm if named else AUTO, config.images), config)  # its own is trained where it is not there
    tasks = {
        (cell.dataset, cell.normal, cell.protocol, cell.split_seed, cell.variant): cell
        for cell in cells if cell.needs_pool
    }  # fmt: skip
    notes: dict[str, list[str]] = {}
    for cell in tasks.values():
        config = pool_config(cell, place.data, place.work)
        note = check_classes(config.images, Path(config.data), config.normal, config.unseen, config.split_seed)
        if note is not None:
            notes.setdefault(note, []).append(f"{cell.dataset} {cell.normal}")
    for note, of in notes.items():
        warnings.warn(f"{note} ({', '.join(of)})", stacklevel=2)
    for cell in {cell.detector: cell for cell in cells}.values():
        check_weights(build(cell, place))
