"""The pools of `painted.py`: Algorithm 1 with the language model `defects` and the image model `paint`, two rounds.

    OMP_NUM_THREADS=1 python benchmarks/painted_runs.py --data ../shared/data --runs runs/painted

Of magnetic tiles, all 600 and the 50 that `painted.py` has of each seed, of one kind of flower and one pair of aerial
photos; in both modes, three seeds; with no limit on the share of hard ones, as altered photos are half hard from the
beginning.
No detector is compared, so a run takes minutes. A run that is there goes on where it was, or is left as it is.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch
from painted import MODES, NORMALS, ROUNDS, SIZE, SUBJECTS, chosen_normals, folder_of
from photos import CLASSES

from kka.algorithm.loop import rounds
from kka.common.begun import is_begun
from kka.common.cache import ImageCache
from kka.common.store import Store
from kka.config import RunConfig
from kka.run.execute import prepare


def make(task: str, normals: int, mode: str, seed: int, data: Path, runs: Path) -> None:
    """One run, but for its comparison of detectors."""
    with tempfile.TemporaryDirectory() as scratch:
        source, named = (data / CLASSES[task][0], CLASSES[task][1]) if task in CLASSES else (Path(scratch), ())
        if task not in CLASSES:
            files = sorted((data / "magnetic_tile/train/good").iterdir())
            for place in chosen_normals(len(files), normals, seed):
                (source / files[place].name).symlink_to(files[place].resolve())
        config = RunConfig(
            data=str(source), normal=named, describe=None if named else SUBJECTS[task], size=None if named else SIZE,
            lm="defects", images="paint", rounds=ROUNDS, mode=mode, max_hard_share=1.0, seed=seed,
        )  # fmt: skip
        known = config.as_dict() | {"data": task}  # the folder of the links is another one each time
        root = folder_of(runs, task, normals, mode, seed)
        with Store(root, known, resume=is_begun(root)) as store:
            found, _, images, language = prepare(config, None, None, None)
            for done in rounds(found, language, images, config=config, store=store, cache=ImageCache()):
                share = done.facts.hard_share_fresh
                told = "" if share is None else f", hard among the fresh {share:.0%}"
                print(f"  round {done.number}: {len(done.pool)} in the pool{told}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=[*SUBJECTS])
    parser.add_argument("--normals", nargs="+", type=int, default=[*NORMALS])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for seed in range(options.seeds):
        for task in options.tasks:
            for normals in options.normals if task not in CLASSES else NORMALS[:1]:
                for mode in MODES:
                    started = time.process_time()
                    print(task, normals, mode, seed, file=sys.stderr, flush=True)
                    make(task, normals, mode, seed, options.data, options.runs)
                    print(f"  {time.process_time() - started:.0f} s of CPU", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
