"""The notebook for the person with a folder of photos, run from top to bottom as a person would."""

import os
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "own_photos.ipynb"
SMALLER = {"ROUNDS, FIRST, FRESH, EPOCHS = 1, 40, 20, 4": "ROUNDS, FIRST, FRESH, EPOCHS = 1, 16, 8, 1",
           "epochs=24": "epochs=4", "plates(80,": "plates(40,"}  # fmt: skip
"""What it says -> what is run in its place."""


def read() -> Any:
    return pytest.importorskip("nbformat").read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs() -> None:
    """Pictures in it would be megabytes of every change, and tell of the machine that it was run on."""
    code = [cell for cell in read().cells if cell.cell_type == "code"]
    assert len(code) >= 8
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of jupyter's own packages
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook is run by nobody but newcomers, who stop at its first error."""
    client = pytest.importorskip("nbclient")
    notebook = read()
    for stated, less in SMALLER.items():
        (cell,) = [cell for cell in notebook.cells if cell.source.count(stated)]
        cell.source = cell.source.replace(stated, less)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parent.parent / "src")]))
    client.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    said = "".join(output.get("text", "") for output in outputs)
    assert "round 1: 8 pictures" in said and "held out for the threshold" in said and "MB" in said
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 5
    assert (tmp_path / "own_photos" / "model.onnx").is_file()
    assert not [output for output in outputs if output.output_type == "error"]
