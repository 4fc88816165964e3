"""Bad inputs, seeded: folders whose labels could be taken wrongly, options without sense, files that are damaged.

A picture's colour is its truth (green: normal, red: anomalous, black and white: mask), so a label that was taken
wrongly is seen. Each input ends well or with one message; a traceback, a hang (60 s), 12 GB of memory, a wrong label
are faults.

    python benchmarks/reliability_inputs.py

About ten minutes on two cores. Results: benchmarks/results/reliability_inputs.json.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from forked import command, forked, warm
from PIL import Image
from reliability_kills import photos

OUT = Path(__file__).resolve().parent / "results" / "reliability_inputs.json"
LIMIT = 60.0
NORMAL = ("good", "Good", "OK", "ok", "normal", "Normal", "NORMAL", "gut", "bon", "pass", "正常", "良品")
ANOMALOUS = ("defect", "Defect", "NG", "ng", "abnormal", "anomaly", "bad", "defekt", "fail", "异常", "不良")
MASKS = ("ground_truth", "mask", "Masks", "gt")
WRONG = ("nan", "inf", "-inf", "-1", "1e30", "", "many")

Case = tuple[str, str, Callable[[], int]]
"""Kind, name, work."""


# --- labels ------------------------------------------------------------------------------------------------------


def _picture(path: Path, truth: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if truth == "mask":
        pixels = np.where(rng.random((24, 24, 1)) < 0.2, 255, 0).repeat(3, 2)
    else:
        pixels = rng.integers(0, 60, (24, 24, 3))
        pixels[..., 1 if truth == "normal" else 0] += 150
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _some(folder: Path, truth: str, n: int, seed: int, suffix: str = "") -> None:
    for i in range(n):
        _picture(folder / f"{i:03}{suffix}.png", truth, seed + i)


def layouts(place: Path) -> Iterator[Case]:
    """Trees of folders as people have them."""
    number = itertools.count()

    def fresh() -> Path:
        return place / f"layout-{next(number)}"

    for k, (good, bad) in enumerate(zip(itertools.cycle(NORMAL), ANOMALOUS * 3, strict=False)):
        folder, mask = fresh(), MASKS[k % len(MASKS)]
        _some(folder / good, "normal", 14, 0)
        _some(folder / bad, "anomalous", 5, 100)
        if k % 2:
            _some(folder / mask, "mask", 5, 200)
        if k % 3 == 0:
            _some(folder / good / "@eaDir", "anomalous", 2, 300)
            (folder / "Thumbs.db").write_bytes(b"x")
        yield "labels", f"{good}/ + {bad}/" + (f" + {mask}/" if k % 2 else ""), _truth(folder)
    sides = (("train", "test"), ("Train", "Test"), ("training", "testing"))
    for (train, test), good in itertools.product(sides, NORMAL[:6]):
        folder = fresh()
        _some(folder / train / good, "normal", 12, 0)
        _some(folder / test / good, "normal", 3, 50)
        _some(folder / test / "scratch", "anomalous", 3, 100)
        _some(folder / "ground_truth" / "scratch", "mask", 3, 200, "_mask")
        yield "labels", f"{train}/{good} + {test}/scratch", _truth(folder)
        folder = fresh()
        _some(folder / train / good, "normal", 14, 0)
        _some(folder / test / "scratch", "anomalous", 3, 100)
        yield "labels", f"{train}/{good} + {test}/scratch alone", _truth(folder)
    for good in NORMAL[:8]:
        folder = fresh()
        _some(folder / good, "normal", 14, 0)
        _some(folder / "test" / "hole", "anomalous", 3, 100)
        yield "labels", f"{good}/ + test/hole", _truth(folder)
        folder = fresh()
        _some(folder / "train" / "OK", "normal", 12, 0)
        _some(folder / "test" / "ground_truth", "mask", 3, 200)
        _some(folder / "test" / "hole", "anomalous", 3, 100)
        _some(folder / "test" / good, "normal", 3, 150)
        yield "labels", f"train/OK + test/ground_truth, {good}", _truth(folder)
    for suffix in ("_mask", "_gt", "_label", "-mask"):
        folder = fresh()
        _some(folder, "normal", 14, 0)
        _some(folder, "mask", 5, 200, suffix)
        yield "labels", f"a.png + a{suffix}.png", _truth(folder)
    for names in (("cup", "fork"), ("A", "B", "C"), ("scratch", "hole", "clean"), ("class1", "class2")):
        folder = fresh()
        for j, name in enumerate(names):
            _some(folder / name, "anomalous" if j else "normal", 10, 100 * j)
        yield "labels", "+".join(names), _truth(folder)


def _truth(folder: Path) -> Callable[[], int]:
    """Open the folder as a task, and compare what it took for what with the colours. 3: a label is wrong."""

    def work() -> int:
        from kka.data import open_task
        from kka.errors import UserError

        try:
            task = open_task(str(folder), describe="a photo", size=24)
        except UserError as error:
            print(f"kka: {error}")
            return 2

        def truth(picture: np.ndarray) -> str:
            mean = picture.reshape(-1, 3).mean(0)
            if mean.max() - mean.min() < 20:
                return "mask"
            return "normal" if mean[1] > mean[0] else "anomalous"

        wrong = [f"a normal is {truth(p)}" for p in task.normals if truth(p) != "normal"]
        wrong += [f"knowledge is {truth(p)}" for p in (task.knowledge.images if task.knowledge else ()) if
                  truth(p) == "mask"]  # fmt: skip
        if task.test is not None:
            for picture, anomalous in zip(task.test.images, task.test.is_anomaly, strict=True):
                if truth(picture) != ("anomalous" if anomalous else "normal"):
                    wrong.append(f"a test picture that is {truth(picture)} counts as anomalous: {anomalous}")
        if wrong:
            print(f"{len(wrong)} wrong: {wrong[0]}")
            return 3
        return 0

    return work


# --- options -----------------------------------------------------------------------------------------------------


def options(place: Path) -> Iterator[Case]:
    """Each number of `kka run` and `kka train`, and paths, with values that have no sense: all must be refused."""
    import dataclasses

    from kka.config import RunConfig
    from kka.settings.deep_sad import DeepSADSettings
    from kka.settings.language import LanguageSettings

    out = ["--out", str(place / "never")]
    for prefix, kind in (("", RunConfig), ("sad.", DeepSADSettings), ("language.", LanguageSettings)):
        for field in dataclasses.fields(kind):
            value = field.default
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            flag = f"--{prefix}{field.name.replace('_', '-')}"
            for wrong in WRONG:
                if wrong == "-1" and "seed" in flag:
                    continue
                yield "options", f"run {flag} {wrong!r}", command(["run", flag, wrong, *out])
    data = photos(place / "some", 12, 1)
    train = ["train", "--data", str(data), "--describe", "a photo", *out]
    for flag, wrong in itertools.product(("--held-out", "--fpr", "--size"), WRONG):
        yield "options", f"train {flag} {wrong!r}", command([*train, flag, wrong])
    numbers = ("epochs=nan", "epochs=-1", "learning_rate=inf", "batch_size=0")
    for wrong in (*numbers, "nothing=1", "epochs", "=", "precision=x"):
        for detector in ("sad", "ssd", "cmda", "simplenet", "recontrast", "patchcore"):
            extra = ["--backbone.weights", "random"] if detector in ("simplenet", "recontrast", "patchcore") else []
            arguments = [*train, "--detector", detector, *extra, "--set", wrong]
            yield "options", f"train --detector {detector} --set {wrong}", command(arguments)
    for name in ("data", "lm", "images", "detector", "out", "prompt", "normal"):
        for wrong in ("", "no such thing", "\0", "x" * 5000, "hf:", "openai:", "bank:", "diffusers:", "/dev/null"):
            if (name == "out" and (":" in wrong or " " in wrong)) or (name, wrong) == ("prompt", "x" * 5000):
                continue  # which has sense
            yield "options", f"run --{name} {wrong[:20]!r}", command(["run", f"--{name}", wrong, "--rounds", "0",
                "--initial", "1", *([] if name == "out" else out)])  # fmt: skip


# --- files -------------------------------------------------------------------------------------------------------


def damages(content: bytes, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """One file, damaged in several ways."""
    yield "empty", b""
    yield "cut", content[: rng.randrange(1, max(2, len(content)))]
    flipped = bytearray(content)
    for _ in range(max(1, len(content) // 200)):
        flipped[rng.randrange(len(flipped))] = rng.randrange(256)
    yield "bytes changed", bytes(flipped)
    yield "random", rng.randbytes(len(content))
    yield "zeros", bytes(len(content))


def files(place: Path, seed: int) -> Iterator[Case]:
    """Pictures, captions, detectors, models, results, each damaged."""
    rng = random.Random(seed)
    data = photos(place / "photos", 12, 2)
    (data / "metadata.jsonl").write_text("".join(
        json.dumps({"file_name": f"{i:03}.png", "text": f"photo {i}"}) + "\n" for i in range(12)
    ))  # fmt: skip
    detectors: dict[str, Path] = {}
    for name, extra in (("sad", ["--preset", "small"]), ("ssd", ["--preset", "small"])):
        detectors[name] = place / name
        arguments = ["train", "--data", str(data), "--detector", name, "--size", "32", *extra, "--set", "epochs=1"]
        made = forked(command([*arguments, "--out", str(detectors[name])]), limit=120)
        assert made.code == 0, made.text
    number = itertools.count()

    def copy(folder: Path) -> Path:
        target = place / f"copy-{next(number)}"
        shutil.copytree(folder, target)
        return target

    for name in ("000.png", "metadata.jsonl"):
        for how, content in damages((data / name).read_bytes(), rng):
            folder = copy(data)
            (folder / name).write_bytes(content)
            yield "files", f"photos/{name}, {how}: describe", command(["data", "describe", str(folder)])
            score = ["score", "--detector-dir", str(detectors["sad"]), str(folder)]
            yield "files", f"photos/{name}, {how}: score", command(score)
    for name, folder in detectors.items():
        for file in sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file()):
            for how, content in damages((folder / file).read_bytes(), rng):
                damaged = copy(folder)
                (damaged / file).write_bytes(content)
                yield "files", f"{name}/{file}, {how}", command(["score", "--detector-dir", str(damaged), str(data)])
        for k in range(30):
            damaged = copy(folder)
            yield "files", f"{name}/detector.json, field {k}", _changed_card(damaged, data, k, seed)
    results = Path(__file__).resolve().parent / "results" / "experiments.jsonl"
    lines = b"".join(results.read_bytes().splitlines(keepends=True)[:40])
    for how, content in damages(lines, rng):
        (place / f"{how}.jsonl").write_bytes(content)
        yield "files", f"results, {how}", command(["experiment", "show", "--results", str(place / f"{how}.jsonl")])


def _changed_card(damaged: Path, data: Path, k: int, seed: int) -> Callable[[], int]:
    """Score with a card of which one value is another."""
    rng = random.Random(seed + k)
    (card,) = [p for p in damaged.glob("*.json") if "image_size" in p.read_text()]
    content = json.loads(card.read_text())

    def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield (*path, key)
            yield from places(inner, (*path, key))

    path = rng.choice(sorted(places(content), key=str))
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = rng.choice([None, float("nan"), float("inf"), -1, 1e6, "x", [], {}, [1e6, 1e6], "cuda:7", True])
    card.write_text(json.dumps(content))
    return command(["score", "--detector-dir", str(damaged), str(data)])


# --- the campaign ------------------------------------------------------------------------------------------------


def fault(kind: str, ended: Any) -> str | None:
    """What is wrong with how it ended; None: nothing."""
    if ended.code is None:
        return "hangs"
    if not ended.clean:
        return "traceback" if "Traceback" in ended.text else f"ends with {ended.code} and without a word"
    if kind == "labels" and ended.code == 3:
        return "a wrong label"
    if kind == "options" and ended.code == 0:
        return "taken without a word"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("labels", "options", "files"))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    warm()
    from kka.common.files import write_atomically

    place = Path(tempfile.mkdtemp())
    os.chdir(place)  # where what is taken after all may write
    cases = {
        "labels": lambda: layouts(place), "options": lambda: options(place), "files": lambda: files(place, asked.seed),
    }  # fmt: skip
    rows = []
    for kind in cases if asked.only is None else (asked.only,):
        for _, name, work in cases[kind]():
            ended = forked(work, limit=LIMIT)
            wrong = fault(kind, ended)
            rows.append({"kind": kind, "input": name, "exit": ended.code, "fault": wrong})
            if wrong:
                print(f"{kind}: {name}: {wrong}\n    " + ended.text.strip()[-300:].replace("\n", "\n    "), flush=True)
    shutil.rmtree(place)
    if asked.only is None:
        given = f"python benchmarks/reliability_inputs.py --seed {asked.seed}"
        write_atomically(OUT, json.dumps({"command": given, "rows": rows}, indent=1) + "\n")
    print(f"{len(rows)} inputs, {sum(row['fault'] is not None for row in rows)} faults")


if __name__ == "__main__":
    main()
