"""What the files of a pipeline say of it before its weights are loaded, in a folder or on the Hugging Face hub."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

INDEX = "model_index.json"
"""The file by which a pipeline is known: its class, its parts, and what its authors say of it."""


class Files:
    """The small files of the pipeline at `path`, each read when it is asked for.

    Args:
        here: To be read from this machine alone.
    """

    def __init__(self, path: str, *, here: bool, revision: str | None = None) -> None:
        self.path, self.here, self.revision = path, here, revision

    @cached_property
    def index(self) -> dict[str, Any]:
        return self.part(INDEX)

    @property
    def class_name(self) -> str:
        """Of the pipeline, as diffusers calls it; "": the index does not say."""
        found = self.index.get("_class_name", "")
        return str(found[-1] if isinstance(found, list) else found)  # a class of its own code comes as (file, name)

    def part(self, name: str) -> dict[str, Any]:
        """A JSON file by its path below the model's; empty where there is none, or none that can be read: loading the
        weights says what is wrong with it."""
        file = Path(self.path).expanduser() / name
        try:
            if not file.parent.exists() and not Path(self.path).expanduser().exists():
                from huggingface_hub import hf_hub_download

                file = Path(
                    hf_hub_download(self.path, name, revision=self.revision, local_files_only=self.here)
                )
            found = json.loads(file.read_text(encoding="utf-8"))
        except Exception:  # of files, of JSON, of the network: many kinds by the version of huggingface_hub
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def fingerprint(self) -> str:
        """Changes when the files of a local model do: a picture of the old one must not be taken for one of the new."""
        folder = Path(self.path).expanduser()
        files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
        return repr([(str(f.relative_to(folder)), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
