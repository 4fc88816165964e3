"""Where an experiment finds and keeps things."""

from dataclasses import dataclass
from pathlib import Path

from kka.settings.backbone import BackboneSettings


@dataclass(frozen=True, kw_only=True)
class Place:
    """Folders, and the backbone of the detectors that have one."""

    data: Path
    """The folder that holds the data sets' folders."""
    work: Path
    """Language models, pools and claims."""
    backbone: BackboneSettings
