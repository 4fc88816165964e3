"""`kka train`, `kka score`, `kka export`. The parser is light; what a command needs is imported when it runs."""

import dataclasses
import sys
import time
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from annotated_types import Gt, Lt

from kka.cli.logged import Hushed
from kka.config import DetectorOptions
from kka.errors import UserError
from kka.settings import PartialShare, Seed, Side, Text, settings
from kka.settings.fit import Fit
from kka.settings.needs import Needs
from kka.settings.threshold import FPR, HELD_OUT

if TYPE_CHECKING:
    from kka.deploy.score import Scored
    from kka.deploy.stored import StoredDetector
    from kka.deploy.train import TrainingFacts
    from kka.task import SetAside

SHOWN = 40
"""Rows of a table on the screen."""


@settings()
class Train(Hushed):
    """Train one detector on your normals and on anomalies that a run imagined, with a threshold from held-out
    normals."""

    detector: Text = "sad"
    """sad, ssd, cmda, simplenet, recontrast, patchcore, dfm, anomalib:<model> (anomalib:padim), or your own class: \
package.module:Class. auto: dfm for photos, or simplenet where there are anomalies without masks; sad for other data."""
    data: Text = "garden"
    """garden, a folder of photos, or a folder with train.parquet and test.parquet."""
    normal: tuple[Text, ...] = ()
    """The normal class, as in kka run."""
    describe: Text | None = None
    """Caption of photos without captions, for detectors that read captions (cmda)."""
    anomalies: Path | None = None
    """The directory of a kka run, its pool.parquet, or a folder of images. Default: none, normals alone."""
    reviews: Path | None = None
    """What a person said of photos, the file of kka review --detector-dir: what is normal joins the normals, what is \
anomalous the anomalies, and the last word on each counts."""
    defects: Path | None = None
    """Folder of a few photos of real defects at hand, with or without masks and sub-folders by kind. They train \
nothing: told is which of them the detector finds, and five and more set a second threshold. A test picture among them \
is set aside by name."""
    train_on_defects: bool = False
    """They join the anomalies, and set no threshold then."""
    match_traces: bool = False
    """Train with pictures that the image model of the run in --anomalies drew without an anomaly, as normals: for \
where its report says that the detector goes by how the model draws."""
    out: Path | None = None
    """The detector's folder. Default: detectors/<detector>-<data>-<date>-<time>."""
    size: Side | None = None
    """Side in pixels at which images are kept. Default: the data's own; for photos that of the anomalies' run, or as \
many as the detector makes use of, 64 to 256."""
    fit: Fit | None = None
    """How pictures become squares: squash, pad, crop or tile, as in kka run. It stands in the detector's card: \
scoring and export read photos alike."""
    held_out: PartialShare = HELD_OUT
    """Share of the normals that sets the threshold and is not trained on."""
    fpr: Annotated[float, Gt(0), Lt(1)] = FPR
    """Share of normals that the threshold may call anomalous."""
    seed: Seed = 0
    track: tuple[Text, ...] = ()
    """Experiment trackers to show the detector to when it is trained, as in kka run."""
    preview: bool = False
    """Train nothing; show photos and anomalies as the detector would see them, what the loader says of the data, and \
what time, memory and disk it will take: in the terminal, and as one picture beside --out."""
    options: Annotated[DetectorOptions, tyro.conf.arg(name="")] = field(default_factory=DetectorOptions)


@settings()
class Score(Hushed):
    """Score image files with a detector that kka train or kka run kept."""

    detector_dir: Path
    detector: Text | None = None
    """Your own class that the detector is of, package.module:Class. Asked for, once, where it lies in the working \
folder and was never named on this machine, as its code will run."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files or folders."""
    out: Path | None = None
    """A CSV file to write: file, score, anomalous. With --ray a folder, of Parquet files."""
    ray: Text | None = None
    """A Ray cluster that scores any number of files: auto (the one that this machine is part of), local (this machine \
alone), host:port or ray://host:port. The images lie at the same path on all its machines. What is in --out already \
is not scored again."""
    needs: Needs = field(default_factory=Needs)
    maps: Path | None = None
    """A folder to write heat maps into, for detectors that localise. All have one scale: colour begins where 95 % of \
held-out normals have none (by the detector's --fpr)."""
    threshold: Literal["defects"] | None = None
    """Of the verdicts. defects: the one that finds all the defects that the detector was given at hand (--defects). \
Default: the one that was chosen in kka review, else that of held-out normals."""
    figures: Path | None = None
    """Where the folders say what is good and what is not, as a test set's do: figures by kind of defect, written to \
this name with .csv and .json; of detectors that localise, those of pixels too, where there are masks."""


@settings()
class Export(Hushed):
    """Write a detector as one model for the edge: preprocessing, network, score and verdict."""

    detector_dir: Path
    detector: Text | None = None
    """Your own class that the detector is of, as in kka score."""
    format: Literal["onnx"] = "onnx"
    threshold: Literal["defects"] | None = None
    """Of the verdicts, as in kka score."""
    out: Path | None = None
    """Default: model.onnx in the detector's folder."""
    check: tuple[Path, ...] = ()
    """Images or folders on which the model must score as the detector does. Default: normals kept with it."""


def run_train(command: Train) -> int:
    """What `kka train` does; returns the exit status."""
    from kka.cli.progress import Console, print_inspection, print_preview
    from kka.common.hold import held
    from kka.common.writable import require_writable
    from kka.data import open_task
    from kka.deploy.anomalies import anomaly_size, has_masks, read_anomalies, read_traces
    from kka.deploy.defects import read_defects
    from kka.deploy.marks import ANOMALOUS
    from kka.deploy.reviewed import read_verdicts, with_reviews
    from kka.deploy.train import require_free, train_detector
    from kka.protocols import TakesMore
    from kka.run.automatic import choose_detector
    from kka.run.estimate import MOST
    from kka.run.models import check_weights, detector_of, working_size
    from kka.tracking import check_trackers
    from kka.tracking.detector import show_detector

    check_trackers(command.track)
    if command.train_on_defects and command.defects is None:
        raise UserError("--train-on-defects: expected --defects beside it, a folder of photos of defects; got none")
    if command.match_traces and (command.anomalies is None or not command.anomalies.is_dir()):
        raise UserError("--match-traces: expected --anomalies beside it, the directory of a kka run; got "
                        f"{command.anomalies or 'none'}")  # fmt: skip
    if command.preview:
        from kka.run.preview import preview_training
    with plain_warnings():
        marks = {} if command.reviews is None else read_verdicts(command.reviews)
    known = command.anomalies is not None or any(mark.said == ANOMALOUS for mark in marks.values())
    masked = command.anomalies is not None and has_masks(command.anomalies, command.fit)
    name, options = choose_detector(
        command.detector, command.data, command.options, anomalies=known, masked=masked
    )
    if name != command.detector and not command.quiet:
        _say(f"Detector: {name}" + (f", preset {options.preset}" if options.preset else ""))
    data = Path(command.data).name or "data"
    named = name.replace(":", "-")  # a class's path; no folder's name on every system
    out = command.out or Path("detectors") / f"{named}-{data}-{datetime.now():%Y%m%d-%H%M%S}"
    require_free(out)
    require_writable(out, "--out", folder=True)
    pool_size = None if command.anomalies is None else anomaly_size(command.anomalies)
    with nullcontext() if command.preview else held(out), Console() as console:
        require_free(out)  # another process may have ended meanwhile
        stage = f"Training {name}"
        build = partial(detector_of, name, options, seed=command.seed)
        detector = build(progress=lambda done, total: console.progress(stage, done, total))
        check_weights(detector)
        photo_size = working_size(command.data, command.size, detector)
        size = command.size or (pool_size if pool_size and photo_size else photo_size)
        describe = command.describe
        reads_captions = isinstance(detector, TakesMore) and "captions" in detector.takes
        if describe is None and photo_size and not reads_captions:
            describe = "a photo"  # which nothing reads
        began = time.perf_counter()
        task = open_task(
            command.data, normal=command.normal, describe=describe, size=size, fit=command.fit, seed=command.seed,
            most=MOST if command.preview else None,
        )  # fmt: skip
        reading = time.perf_counter() - began
        if not command.preview:
            console.task(task)
        side = task.normals.shape[1]
        with plain_warnings():
            anomalies = None
            if command.anomalies is not None:
                anomalies = read_anomalies(command.anomalies, side, task.white, task.fit)
            aside = [*(anomalies.set_aside if anomalies else ())]
            reviewed = None
            if marks:
                folder = Path(command.data) if Path(command.data).is_dir() else None
                task, anomalies, reviewed, lost = with_reviews(
                    task, anomalies, marks, folder=folder, caption=command.describe
                )
                aside += lost
            defects = None if command.defects is None else read_defects(command.defects, task, anomalies)
            aside += () if defects is None else defects.set_aside
            if command.preview:
                console.progress("measuring a training", 0, 1)
                found = preview_training(
                    lambda told: build(progress=told), task, anomalies, name=name, held_out=command.held_out,
                    reading=reading,
                )  # fmt: skip
                name_set_aside(aside)
                print_preview(found, out)
                return 0
            facts = train_detector(
                detector, task, anomalies, out, held_out=command.held_out, fpr=command.fpr, seed=command.seed,
                reviewed=reviewed, defects=defects, train_on_defects=command.train_on_defects,
                traces=read_traces(command.anomalies, side) if command.anomalies and command.match_traces else None,
            )  # fmt: skip
    show_detector(out, command.track, say=lambda text: _say(text, "yellow"))
    name_set_aside(aside)
    if pool_size and pool_size != side:
        _say(f"The anomalies have {pool_size} pixels a side, the normals {side}: the detector may have learnt their "
             f"sharpness. Better: the run and --size alike.", "yellow")  # fmt: skip
    _print_training(name, side, facts)
    print_inspection(facts.inspection)
    if facts.caught is not None and facts.calibration is not None:
        for line in facts.caught.sentences(facts.calibration):
            _say(f"{line}.")
    _say(f"Detector: {out}")
    return 0


def run_score(command: Score) -> int:
    """What `kka score` does; returns the exit status."""
    from kka.cli.progress import Console, print_inspection
    from kka.common.files import image_files
    from kka.common.inspection import write_inspection
    from kka.common.writable import require_writable
    from kka.deploy.labels import inspect_files
    from kka.deploy.score import score_files, write_csv
    from kka.deploy.stored import NO_THRESHOLD, open_detector

    if command.ray is not None:
        if command.out is None:
            raise UserError("--ray: expected --out beside it, a folder for Parquet files; got none")
        if command.figures is not None or command.maps is not None:
            raise UserError("--ray: it writes scores alone; leave --maps and --figures out")
    if command.figures is not None:
        require_writable(command.figures, "--figures")
    if command.out is not None:
        require_writable(command.out, "--out", folder=command.ray is not None)
    if command.maps is not None:
        require_writable(command.maps, "--maps", folder=True)
    with plain_warnings():
        kept = open_detector(command.detector_dir, of=command.detector).by(command.threshold)
    files = found_in(image_files(command.images), command.images)
    if command.ray is not None:
        return _score_shards(command, command.ray, kept, files)
    with Console() as console:
        scored = score_files(
            kept, files, maps=command.maps, progress=lambda done, total: console.progress("Scoring", done, total)
        )
    name_set_aside(scored.set_aside)
    for item in scored.clipped:
        _say(f"  clipped: {item.path}: {item.reason}", "yellow")
    _print_scores(scored, kept)
    _say_chosen(kept)
    if kept.threshold is None:
        _say(NO_THRESHOLD, "yellow")
    if command.out is not None:
        write_csv(scored.rows, command.out)
        _say(f"Scores: {command.out}")
    if command.maps is not None:
        _say(f"Maps:   {command.maps}")
    with Console() as console, plain_warnings():
        rows = inspect_files(
            kept, scored.rows, command.images, localising=command.figures is not None,
            progress=lambda done, total: console.progress("Comparing maps with masks", done, total),
        )  # fmt: skip
    print_inspection(rows)
    if command.figures is not None:
        if not rows:
            raise UserError("--figures: expected folders that say what is good and what is not, such as test/good and "
                            "test/scratch; got none with an anomaly")  # fmt: skip
        stored = None if kept.calibration is None else kept.calibration.figures
        if kept.chosen is not None:
            stored = (stored or {}) | {"chosen": dataclasses.asdict(kept.chosen)}
        target = command.figures
        target = target.with_suffix("") if target.suffix in (".csv", ".json") else target
        write_inspection(rows, target, calibration=stored)
        _say(f"Figures: {target}.csv, {target}.json")
    return 0


def _score_shards(command: Score, address: str, kept: "StoredDetector", files: Sequence[Path]) -> int:
    from kka.cli.progress import Console
    from kka.common.cluster import Cluster
    from kka.deploy.shards import open_there, require_paths, score_shards, sent

    assert command.out is not None
    with Cluster(address, command.needs) as cluster, Console() as console:
        cluster.everywhere(require_paths, [str(path) for path in command.images])
        copies = cluster.copies(open_there, *sent(kept, command.detector, command.threshold))
        found = score_shards(
            kept, files, command.out, copies, progress=lambda done, total: console.progress("Scoring", done, total)
        )
    above = "" if kept.threshold is None else f", {found.anomalous:,} anomalous"
    aside = f", {found.set_aside:,} could not be read (reason says why)" if found.set_aside else ""
    clipped = f", {found.clipped:,} clipped" if found.clipped else ""
    _say(f"{found.files:,} files{above}{aside}{clipped}")
    _say(f"Scores: {command.out} ({found.made} shards made now)")
    return 0


def run_export(command: Export) -> int:
    """What `kka export` does; returns the exit status."""
    from kka.common.writable import require_writable
    from kka.deploy.export import export_onnx
    from kka.deploy.stored import NO_THRESHOLD, open_detector

    out = command.out or command.detector_dir / "model.onnx"
    if command.out is not None or command.detector_dir.is_dir():
        require_writable(out, "--out")
    with plain_warnings():
        kept = open_detector(command.detector_dir, of=command.detector).by(command.threshold)
    check: Sequence[Path] = ()
    if command.check:
        from kka.common.files import image_files

        check = found_in(image_files(command.check), command.check)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(torch|onnx|onnxscript|copyreg)\b")
        facts = export_onnx(kept, out, check)
    _say_chosen(kept)
    if kept.threshold is None:
        _say(f"{NO_THRESHOLD}. The model gives a score and no verdict.", "yellow")
    verdict = "" if facts.threshold is None else f", anomalous above {facts.threshold:.6g}"
    _say(f"{out}: {facts.bytes / 2**20:.1f} MB, {facts.latency_ms:.1f} ms an image on one CPU thread{verdict}")
    _say(
        f"ONNX Runtime against PyTorch on {facts.images} images ({facts.checked_on}): largest relative "
        f"difference {facts.largest_relative_difference:.1e}"
    )
    return 0


def found_in(files: list[Path], named: Sequence[Path]) -> list[Path]:
    """The files; UserError where there are none."""
    if not files:
        raise UserError(f"images: expected image files; found none in {', '.join(map(str, named))}")
    return files


def _say(text: str, style: str | None = None) -> None:
    from kka.common.terminal import terminal

    terminal(stderr=style is not None).print(text, style=style, soft_wrap=True)


class plain_warnings(warnings.catch_warnings):  # noqa: N801  # used as a function
    """kka's own warnings in words, without a line of source."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.showwarning = lambda message, *_, **__: _say(f"Warning: {message}", "yellow")


def name_set_aside(items: "Sequence[SetAside]") -> None:
    """A line for each file that is left aside."""
    for item in items:
        _say(f"  set aside: {item.path}: {item.reason}", "yellow")


def _print_training(name: str, side: int, facts: "TrainingFacts") -> None:
    from rich.table import Table

    from kka.common.terminal import terminal

    table = Table(title=f"{name}, {side} pixels a side", show_header=False)
    real = f", {facts.real_defects} of them real defects" if facts.real_defects else ""
    traces = f", and {facts.traces:,} traces of the image model" if facts.traces else ""
    rows = [
        ("normals trained with", f"{facts.normals:,}{traces}"),
        ("anomalies trained with", f"{facts.anomalies:,}{real}"),
        ("normals held out", f"{facts.held_out:,}"),
        *_of_people(facts),
        ("seconds", f"{facts.seconds:.1f}"),
    ]
    if (found := facts.calibration) is not None:
        rows.append((f"threshold ({100 * found.fpr:g} % false positives)", f"{found.threshold:.6g}"))
    else:
        rows.append(("threshold", "none: no normals were held out"))
    for key, title in (("auroc", "AUROC, %"), ("aupr", "AUPR, %")):
        if key in facts.figures:
            rows.append((title, f"{100 * facts.figures[key]:.1f}"))
    for row in rows:
        table.add_row(*row)
    terminal().print(table)


def _of_people(facts: "TrainingFacts") -> list[tuple[str, str]]:
    """How many of the pictures came from a person's marks."""
    found = facts.reviewed
    if found is None:
        return []
    rows = [
        ("normals from reviews", found.normals), ("anomalies from reviews", found.anomalies),
        ("normals called anomalous", found.no_normals), ("anomalies called normal", found.no_anomalies),
    ]  # fmt: skip
    return [(title, f"{number:,}") for title, number in rows if number]


def _say_chosen(kept: "StoredDetector") -> None:
    """Whose threshold it is, where it is not the detector's own."""
    from kka.deploy.chosen import AT_HAND

    if kept.chosen is None:
        return
    own = "it had none" if kept.calibration is None else f"its own is {kept.calibration.threshold:.6g}"
    whose = f"was {kept.chosen.told}, in kka review" if kept.chosen.by != AT_HAND else f"is that of {AT_HAND}"
    _say(f"The threshold {kept.chosen.threshold:.6g} {whose}; {own}.", "yellow")


def _print_scores(scored: "Scored", kept: "StoredDetector") -> None:
    from rich.table import Table
    from rich.text import Text

    from kka.common.terminal import terminal
    from kka.common.walk import printable

    found = kept.threshold
    above = "" if found is None else f", anomalous above {found:.6g}"
    table = Table(title=f"{kept.name}: higher = more anomalous{above}")
    table.add_column("file", overflow="fold")
    table.add_column("score", justify="right")
    if found is not None:
        table.add_column("verdict")
    rows = sorted(scored.rows, key=lambda row: -row.score)
    for row in rows[:SHOWN]:
        verdict = [] if row.anomalous is None else [Text("anomalous", "bold red") if row.anomalous else Text("normal")]
        table.add_row(Text(printable(str(row.file))), f"{row.score:.6g}", *verdict)
    console = terminal(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    counted = "" if found is None else f", {sum(bool(row.anomalous) for row in rows)} anomalous"
    more = f"; {len(rows) - SHOWN} less anomalous ones are not shown" if len(rows) > SHOWN else ""
    _say(f"{len(rows)} images{counted}{more}")
