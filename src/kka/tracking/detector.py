"""A detector that `kka train` kept, shown to trackers: its settings, its loss by epoch, its figures."""

from collections.abc import Callable, Sequence
from pathlib import Path

from kka.common.begun import flat
from kka.common.files import read_json
from kka.common.inspection import Row
from kka.deploy.stored import INSPECTION
from kka.detectors.saving import CARD
from kka.tracking import open_tracker
from kka.tracking.figures import inspected, losses
from kka.tracking.news import News, Place, Scalar


def detector_news(folder: Path) -> News:
    """What the detector in `folder` has to show, from its files alone."""
    card = read_json(folder / CARD) if (folder / CARD).is_file() else {}
    scalars: list[Scalar] = [*losses(folder, "loss/train")]
    table = folder / f"{INSPECTION}.json"
    if table.is_file():
        scalars += inspected([Row.from_dict(row) for row in read_json(table)["rows"]], "test", 0)
    if calibration := card.get("calibration"):
        scalars.append(Scalar(tag="threshold", step=0, value=float(calibration["threshold"])))
        card["calibration"] = {name: value for name, value in calibration.items() if name != "scores"}  # hundreds
    files = [folder / f"{INSPECTION}.csv", folder / CARD]
    return News(settings=flat(card), scalars=tuple(scalars), files=tuple(file for file in files if file.is_file()))


def show_detector(folder: Path, specs: Sequence[str], *, say: Callable[[str], None]) -> None:
    """A tracker that fails is named; the detector is kept all the same."""
    for spec in dict.fromkeys(specs):
        try:
            tracker = open_tracker(spec, Place(folder=folder))
            tracker.log(detector_news(folder))
            tracker.close(finished=True)
        except Exception as error:  # each library has its own
            say(f"{spec} was not told of {folder}: {error}")
