"""The page: what a run stored, put into words, tables and charts. Every text goes through autoescaping."""

import shlex
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from PIL import Image

from kka.algorithm.folder import stage_name
from kka.algorithm.hardness import is_hard
from kka.common.begun import flat
from kka.common.labels import STAGES, arm_label, percent, stage_kind
from kka.common.ledger import NOTHING, Entry, Ledger
from kka.common.metrics import Estimate, mean_ci95
from kka.common.options import as_words
from kka.config import RunConfig
from kka.deploy.traced import Traced
from kka.deploy.worth import Worth
from kka.report import analysis, figures
from kka.report.embedded import TINY, data_uri, whole
from kka.report.people import review_notes
from kka.report.read import Picture, RoundRecord, Run
from kka.report.tested import inspection, latent_maps, shown_tests, test_charts
from kka.report.words import words_by_round
from kka.report.writing import writing

PER_SIDE = 24
"""Pictures shown of each round's hard ones, and of its easy ones."""
FEW = 6
"""Pictures of one reason to be set aside that are named each."""
UNREAD = 3
"""A note where more than one in so many captions name no defect that the image model knows."""
ALL_PICTURES = 200
"""Bounds the page's size: with many rounds, fewer of each are shown."""
STAGES = {
    **STAGES,
    "scores": "Judging new pictures (Eq. 6)",
    "pool": "Renewing the pool (Eq. 8)",
    "task": "Keeping pictures for this report",
    "reviews": "Taking in reviews",
}


def render(run: Run) -> str:
    """The whole page as one text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        share=_share,
        figure=_figure,
        relative=_relative,
        count=lambda n: "–" if n is None else f"{n:,.0f}",
    )
    page = environment.get_template("page.html.j2")
    return page.render(
        run=run,
        summary=run.summary,
        style=(Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        headline=headline(run),
        arms=_arm_rows(run),
        inspection=inspection(run),
        defects=run.summary.get("defects"),
        traced=None if not (found := run.summary.get("traced")) else Traced(**found).sentence(),
        worth=None if not (found := run.summary.get("worth")) else Worth(**found).sentence(),
        shown_tests=shown_tests(run),
        charts=_round_charts(run),
        notes=round_notes(run),
        reviews=review_notes(run.ledger, len(run.rounds)),
        tuning_notes=tuning_notes(run),
        normals=[data_uri(Image.fromarray(image)) for image in run.normals],
        representatives=_representatives(run),
        galleries=_galleries(run),
        tests=test_charts(run),
        latent=latent_maps(run),
        words=_words(run),
        examples=[(r.number, _examples(r)) for r in run.rounds],
        cost=cost_rows(run.ledger),
        writing=writing(run.ledger, len(run.rounds)),
        set_aside=_set_aside(run),
        samples=None if run.samples is None else whole(run.samples),
        commands=commands(run),
        pixelated=max(run.normals.shape[1:3]) <= TINY,
    )


def headline(run: Run) -> dict[str, Any] | None:
    """AUROC without anomalies and after the last round, and the gain, paired by seed. None without a test set."""
    last = run.last_arm
    if "none" not in run.arms or last not in run.arms:
        return None
    before, after = run.arms["none"].figures["auroc"], run.arms[last].figures["auroc"]
    gains = [b - a for a, b in zip(before.per_seed, after.per_seed, strict=True)]
    mean, ci95 = mean_ci95(gains)
    gain = f"{100 * mean:+.1f}".replace("-", "−")
    return {"before": before, "after": after, "gain": gain, "gain_ci95": ci95, "round": run.rounds[-1].number}


def round_notes(run: Run) -> list[str]:
    """What a reader would else wonder at in the rounds' figures."""
    notes = []
    for r in run.rounds:
        entry = run.ledger.stages.get(stage_name(r.number, "images"))
        unread = int((entry.counts.get("unread_captions") if entry else 0) or 0)
        if UNREAD * unread > len(r.captions):
            notes.append(
                f"Round {r.number}: {unread} of {len(r.captions)} captions name no defect that the image "
                f"model knows; it chose one itself. Say in English what the photos show (--describe), or take another "
                f"language model."
            )
        if r.facts.too_typical:
            notes.append(
                f"Round {r.number}: {r.facts.too_typical} pictures look like the most typical normals, and were kept "
                f"out of the pool."
            )
        if r.facts.entered == 0:  # a run of an older version does not say why
            why = f": {r.facts.closed}" if r.facts.closed else ""
            notes.append(f"Round {r.number} closed, as no new picture entered the pool{why}.")
        if r.facts.captions < r.facts.captions_asked:
            notes.append(
                f"Round {r.number}: {r.facts.captions} of {r.facts.captions_asked} captions; the language model "
                f"wrote no more that were new."
            )
    return notes


def tuning_notes(run: Run) -> list[str]:
    """Rounds whose tuning did not carry over to the validation pairs (there the loss without tuning is log 2), or that
    left fewer than half as many different captions."""
    notes = []
    for r in run.rounds:
        report = r.facts.dpo.report if r.facts.dpo else None
        if report is not None and report.validation_loss >= np.log(2):  # not NaN: there are pairs
            notes.append(
                f"Round {r.number}: the validation loss is no lower than without tuning (0.693): little of what the "
                f"model learned carries over to other pairs."
            )
        if report is not None and 2 * (report.different_after or 0) < (report.different_before or 0):
            notes.append(
                f"Round {r.number}: the tuning narrowed the language model: {report.different_after} different "
                f"captions among {report.answers} answers, {report.different_before} before."
            )
    return notes


def commands(run: Run) -> dict[str, str]:
    """Command lines: the same run again, this run taken up, this report written anew."""
    usual, given = RunConfig(), RunConfig.from_dict(run.config)  # of an older version: in today's words
    options = as_words(flat(given.as_dict()), flat(usual.as_dict()), unnamed="detector_options.")
    name = shlex.quote(run.folder.resolve().name)
    return {
        "again": shlex.join(["kka", "run", *options, "--out", f"{run.folder.resolve().name}-again"]),
        "resume": f"kka run --out {name} --resume",
        "report": f"kka report {name}",
    }


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A kind of stage in the table of costs."""

    label: str
    times: int
    sum: Entry
    """Over the stages of this kind."""


def cost_rows(ledger: Ledger) -> list[Cost]:
    """The ledger by kind of stage, in the order of the loop."""
    entries: dict[str, list[Entry]] = {}
    for stage, entry in ledger.stages.items():
        entries.setdefault(stage_kind(stage), []).append(entry)
    order = ["representatives", "captions", "images", "evaluator", "dpo", "scores", "pool", "detectors"]
    return [
        Cost(label=STAGES.get(kind, kind), times=len(entries[kind]), sum=reduce(Entry.plus, entries[kind], NOTHING))
        for kind in sorted(entries, key=lambda k: order.index(k) if k in order else len(order))
    ]


def _kka(run: Run) -> list[tuple[int, dict[str, Estimate]]]:
    return [(r.number, run.arms[f"kka-{r.number}"].figures) for r in run.rounds if f"kka-{r.number}" in run.arms]


def _arm_rows(run: Run) -> dict[str, Any]:
    columns = [("auroc", "AUROC"), ("seen", "known kinds"), ("unseen", "withheld kinds")]
    columns += [("aupr", "AUPR"), ("fpr95", "FPR at 95 % TPR")]
    shown = [c for c in columns if any(c[0] in arm.figures for arm in run.arms.values())]
    rows = [
        {"label": arm_label(name), "last": name == run.last_arm, "figures": [arm.figures.get(c) for c, _ in shown]}
        for name, arm in run.arms.items()
    ]
    return {"columns": [title for _, title in shown], "rows": rows}


def _round_charts(run: Run) -> dict[str, Any]:
    charts: dict[str, Any] = {"auroc": None, "split": None, "hard": None}
    if kka := _kka(run):
        numbers = [n for n, _ in kka]
        controls = {n: arm.figures["auroc"] for n, arm in run.arms.items() if not n.startswith("kka-")}
        charts["auroc"] = figures.auroc_by_round(numbers, [f["auroc"] for _, f in kka], controls)
        if all("seen" in f and "unseen" in f for _, f in kka):
            parts = [("known", [f["seen"] for _, f in kka]), ("withheld", [f["unseen"] for _, f in kka])]
            charts["split"] = figures.split_by_round(numbers, parts)
    shares = [(r.facts.hard_share_fresh, r.facts.hard_share_pool) for r in run.rounds]
    if any(share is not None for pair in shares for share in pair):
        fresh, pool = zip(*shares, strict=True)
        charts["hard"] = figures.hard_share([r.number for r in run.rounds], fresh, pool, run.config["max_hard_share"])
    return charts


def _representatives(run: Run) -> list[dict[str, Any]]:
    images = run.representative_images
    first = {shown.normal: i for i, shown in reversed([*enumerate(run.representatives)])}  # it may have several prompts
    return [
        {
            **asdict(run.representatives[i]),
            "image": None if images is None else data_uri(Image.fromarray(images[i])),
        }
        for i in sorted(first.values())
    ]


def _galleries(run: Run) -> list[dict[str, Any]]:
    """Of each round: its hard and its easy pictures, or those that nothing judged."""
    per_side = max(4, min(PER_SIDE, ALL_PICTURES // (2 * len(run.rounds))))
    galleries = []
    for r in run.rounds:
        hard = _hard(r)
        easy = [p for p in r.pictures if p.relative is not None and p.relative >= 1]
        unjudged = [p for p in r.pictures if p.relative is None]
        number = per_side // 2 if r.alters else per_side  # each is shown three times
        sides = [("Hard", "hard", hard), ("Easy", "easy", easy), ("Not judged", "unjudged", unjudged)]
        wanted = sides[:2] if hard or easy else []
        wanted += sides[2:] if unjudged else []
        sides_shown = [_side(r, *side, number) for side in wanted]
        galleries.append({"number": r.number, "alters": r.alters, "sides": sides_shown})
    return galleries


def _hard(r: RoundRecord) -> list[Picture]:
    judged = [p for p in r.pictures if p.relative is not None]
    return [p for p, near in zip(judged, is_hard(np.array([p.relative for p in judged])), strict=True) if near]


def _side(r: RoundRecord, title: str, kind: str, pictures: list[Picture], per_side: int) -> dict[str, Any]:
    ordered = sorted(pictures, key=lambda p: (p.relative or 0.0, p.row))
    shown = analysis.evenly(ordered, per_side)
    uris = [[data_uri(view) for view in views] for views in r.views(shown)]
    return {"title": title, "kind": kind, "all": len(pictures), "shown": list(zip(shown, uris, strict=True))}


def _words(run: Run) -> dict[str, Any]:
    found = words_by_round([r.captions for r in run.rounds], [[p.caption for p in _hard(r)] for r in run.rounds])
    tuned = {r.number: r.facts.dpo is not None and r.facts.dpo.report is not None for r in run.rounds}
    chance = not any(tuned.values()) and run.config.get("steer") != "examples"
    largest = max((abs(w.after / r.after - w.before / r.before) for r in found for w in r.words if r.after), default=0)
    judged = any(r.hard for r in found)
    return {"rounds": found, "judged": judged, "tuned": tuned, "chance": chance, "largest": largest or 1.0}


def _examples(r: RoundRecord) -> list[Picture]:
    return analysis.evenly(r.pictures, 6)


def _set_aside(run: Run) -> list[tuple[str, str, str]]:
    files = [("file", item["path"], item["reason"]) for item in run.summary["task"]["set_aside"]]
    return files + [row for r in run.rounds for row in _reasons(r)]


def _reasons(r: RoundRecord) -> list[tuple[str, str, str]]:
    """Each picture that was set aside; of a reason that many have, how many, and a few of their captions."""
    by_reason: dict[str, list[str]] = {}
    for row in r.set_aside:
        by_reason.setdefault(row.reason, []).append(row.caption)
    rows = []
    for reason, captions in by_reason.items():
        if len(captions) <= FEW:
            rows += [(f"picture of round {r.number}", caption, reason) for caption in captions]
        else:
            shown = "; ".join(analysis.evenly(captions, FEW))
            rows.append((f"{len(captions)} pictures of round {r.number}", f"{shown}; …", reason))
    return rows


def _share(value: float | int | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _figure(value: float | int | None, digits: int = 3) -> str:
    """A plain number; a dash for what was not measured."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}".replace("-", "−")


def _relative(value: float) -> str:
    """A relative distance, cut off after two digits: what is hard must not be rounded up to 1.00."""
    return f"{np.floor(100 * value) / 100:.2f}"
