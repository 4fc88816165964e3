"""What the page shows of the test set: figures by kind, pictures with their maps, histograms, ROC, latent space."""

from typing import Any

import numpy as np
from PIL import Image

from kka.common.inspection import FIGURES, TITLES, Row
from kka.common.labels import arm_label
from kka.report import analysis, figures
from kka.report.embedded import data_uri
from kka.report.read import Run

TEST_GROUPS = {
    "good": ("Good, and the most anomalous", "Above the threshold these are false alarms."),
    "missed": ("Missed defects", "At or below the threshold, the lowest first."),
    "found": ("Found defects", "The highest of each kind."),
}
"""Group of the gallery -> title, and what to say of it."""


def inspection(run: Run) -> dict[str, Any] | None:
    """The figures of the detector that is kept, by kind of defect; None for a run that has none."""
    stored = run.summary.get("inspection")
    if not stored:
        return None
    rows = [Row.from_dict(row) for row in stored["rows"]]
    shown = [name for name in FIGURES if any(name in row.figures for row in rows)]
    return {
        "columns": [TITLES[name] for name in shown],
        "rows": [(row.kind, row.photos, [row.figures.get(name) for name in shown]) for row in rows],
        "calibration": stored["calibration"],
    }


def shown_tests(run: Run) -> list[dict[str, Any]]:
    """The groups of the gallery: picture, map and mask of each, score and kind."""
    stored = run.gallery
    if stored is None:
        return []
    groups = []
    for name, (title, note) in TEST_GROUPS.items():
        shown = []
        for i in np.flatnonzero(stored["groups"] == name):
            views = [("picture", stored["images"][i])]
            if "maps" in stored:
                views.append(("map", stored["maps"][i]))
            if "masks" in stored and stored["masked"][i]:
                views.append(("mask", np.repeat(255 * stored["masks"][i].astype(np.uint8)[..., None], 3, axis=2)))
            uris = [(view, data_uri(Image.fromarray(pixels))) for view, pixels in views]
            shown.append({"views": uris, "kind": str(stored["kinds"][i]), "score": float(stored["scores"][i])})
        groups.append({"title": title, "note": note, "shown": shown})
    return groups


def test_charts(run: Run) -> dict[str, Any] | None:
    if run.is_anomaly is None or not run.arms:
        return None
    last = run.last_arm
    firsts = [arm.scores[0] for arm in run.arms.values()]
    log = figures.is_wide(firsts)
    histograms = [
        (arm_label(name), figures.histogram(arm.scores[0], run.is_anomaly, log=log)) for name, arm in run.arms.items()
    ]
    chosen = [name for name in dict.fromkeys(["none", "noise", "other", "real", "kka-0", last]) if name in run.arms]
    curves = [(name, *analysis.mean_roc(run.arms[name].scores, run.is_anomaly)) for name in chosen]
    legend = [(name, arm_label(name), run.arms[name].figures["auroc"], name == last) for name in chosen]
    return {"histograms": histograms, "log": log, "roc": figures.roc(curves, last), "legend": legend}


def latent_maps(run: Run) -> dict[str, Any] | None:
    """Maps of the latent space without anomalies and after the last round."""
    if run.is_anomaly is None:
        return None
    shown = analysis.sample_points(run.is_anomaly)
    seen = None if run.seen is None else run.seen[shown]
    maps = []
    for name in ("none", run.last_arm):
        latent = run.arms[name].latent if name in run.arms else None
        if latent is not None:
            points = analysis.tsne(latent[shown])
            drawn = None if points is None else figures.latent_map(points, run.is_anomaly[shown], seen)
            maps.append((arm_label(name), drawn))
    return {"maps": maps, "points": len(shown), "split": seen is not None} if maps else None
