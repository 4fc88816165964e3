"""Whether a model can be had, from a folder or the Hugging Face hub, asked before anything is loaded.

The libraries that load try each file of a hub that cannot be reached six times, with growing waits and a line for each.
"""

from functools import lru_cache
from pathlib import Path

from kka.errors import UserError

TIMEOUT = 10.0
"""Seconds that the hub may take to say whether it has a model."""


def require_model(
    source: str, index: str, *, what: str, weights: str = "", revision: str | None = None
) -> bool:
    """Whether `source` (a folder or a hub id) is to be read from here alone: a folder, or a copy where there is no hub.

    Args:
        index: The file that such a model has: config.json.
        what: The model, as errors say it.
        weights: A pattern of files that a folder needs beside `index`: *.safetensors.

    Raises:
        UserError: no such folder, one that lacks files, no such model on the hub, or neither a copy nor a network.
    """
    path = Path(source).expanduser()
    if path.exists():
        missing = [] if (path / index).is_file() else [index]
        missing += [f"{weights} (pickled weights are never loaded)"] if weights and not any(path.glob(weights)) else []
        if missing:
            lacks = " and ".join(missing)
            raise UserError(f"{what}: expected a folder in Hugging Face format; {source!r} lacks {lacks}")
        return True
    if source.startswith((".", "/", "~")) or source.count("/") > 1 or "\\" in source:
        raise UserError(f"{what}: there is no folder {source!r}")
    return _found(source, index, what, revision) == "copy"


@lru_cache(maxsize=64)  # asked before a run, and again when it is loaded; a failure is not kept
def _found(source: str, index: str, what: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    help_ = (
        f"{what} {source!r} cannot be loaded. Expected a folder, or the id of a model on the Hugging Face hub "
        "(owner/name) that can be reached from here: check the spelling and the network, run `hf auth login` for a "
        "gated model, or download it and give the folder."
    )
    try:
        copy = isinstance(try_to_load_from_cache(source, index, revision=revision or "main"), str)
        info = HfApi().model_info(source, revision=revision, timeout=TIMEOUT)
    except HFValidationError as error:
        raise UserError(f"{help_} {str(error).strip().splitlines()[0]}") from error
    except (RepositoryNotFoundError, GatedRepoError, EntryNotFoundError) as error:
        if copy:
            return "copy"
        raise UserError(f"{help_} The hub says: {str(error).strip().splitlines()[0]}") from error
    except HfHubHTTPError:  # busy, perhaps: loading will tell
        return "hub"
    except Exception as error:  # of the network: requests' and httpx's own kinds, by the version of huggingface_hub
        if copy:
            return "copy"
        raise UserError(f"{help_} There is no copy here, and the hub cannot be reached ({error}).") from error
    files = [file.rfilename for file in info.siblings or ()]
    if files and index not in files:
        raise UserError(f"{what} {source!r}: expected a model with {index}; the hub's has {', '.join(files[:5])}, …")
    return "hub"
