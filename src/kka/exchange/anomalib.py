"""anomalib's Folder: `normal/`, `abnormal/`, `masks/` where every picture has one; and `open_folder.py` opens it."""

from pathlib import Path
from typing import Any

from PIL import Image

from kka.common.progress import Progress
from kka.errors import UserError
from kka.exchange.source import Exported
from kka.exchange.target import write_pictures

SNIPPET = '''"""Opens this folder with anomalib (pip install anomalib): `python open_folder.py` counts what is there.

anomalib trains on the normals alone; the generated anomalies are in its test set: to choose a threshold by, and for
models that you hand them to. They are imagined, so figures on them are none of real defects.
"""

from pathlib import Path

from anomalib.data import Folder


def datamodule(**settings):
    return Folder(
        name={name!r}, root=Path(__file__).parent, normal_dir="normal", abnormal_dir="abnormal",{mask_dir}
        **({{"val_split_mode": "same_as_test"}} | settings),
    )


if __name__ == "__main__":
    data = datamodule()
    data.setup()
    print(len(data.train_data), "normals to train with;", len(data.test_data), "pictures to test with")
'''


def write(exported: Exported, folder: Path, progress: Progress) -> dict[str, Any]:
    """The folders and the snippet. The normals are as the run saw them: at its size, made squares as it did.

    Raises:
        UserError: no normals.
    """
    if exported.task is None:
        raise UserError("pool: anomalib's layout holds the normals too; the run's data is needed")
    whole = exported.masked
    write_pictures(exported, folder / "abnormal", progress, masks=folder / "masks" if whole else None)
    (folder / "normal").mkdir()
    for number, image in enumerate(exported.task.normals):
        Image.fromarray(image).save(folder / "normal" / f"{number:05d}.png")
    code = SNIPPET.format(name=exported.run, mask_dir='\n        mask_dir="masks",' if whole else "")
    (folder / "open_folder.py").write_text(code, encoding="utf-8")
    return {"normals": len(exported.task.normals)}
