"""Under which licence a model stands, where that is known: of kka's own, and of a folder that says so in its card."""

from pathlib import Path

import yaml

from kka.imaging.diffusers import KINDS

KNOWN = {
    "garden": "apache-2.0",
    "defects": "apache-2.0",
    "paint": "that of the photos that were altered",
    "smollm2": "apache-2.0",
    "hf:Qwen/Qwen3-4B-Instruct-2507": "apache-2.0",
}
"""Spec -> licence, of models that kka names itself."""
UNKNOWN = "not known to kka: see where the model comes from"
OF_PICTURES = "that of the pictures that were looked up"
OF_ONES_OWN = "that of the captions or pictures that it was trained on"


def licence_of(spec: str) -> str:
    """In a few words."""
    if spec in KNOWN:
        return KNOWN[spec]
    name, _, argument = spec.partition(":")
    if name == "bank":
        return OF_PICTURES
    if spec in ("corpus", "trained"):
        return OF_ONES_OWN
    if not argument or name not in ("hf", *KINDS):  # no folder with a card is meant
        return UNKNOWN
    return _of_card(Path(argument).expanduser() / "README.md") or UNKNOWN


def _of_card(file: Path) -> str | None:
    """What stands under `license` at the head of a model's card."""
    if not file.is_file():
        return None
    parts = file.read_text(encoding="utf-8", errors="replace").split("---", 2)
    try:
        head = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        return None
    return str(head["license"]) if isinstance(head, dict) and head.get("license") else None
