"""A run's pool for other tools: each form is opened by the library that it is for."""

import dataclasses
import http.server
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from fakes import small_task
from kka.algorithm.pool import AnomalyPool
from kka.cli import main
from kka.data import open_task
from kka.errors import UserError
from kka.exchange import FORMATS, writer
from kka.exchange import source as sources
from kka.exchange.coco import annotations_of
from kka.exchange.huggingface import push
from kka.exchange.licences import UNKNOWN, licence_of
from kka.exchange.source import Exported, read_run
from kka.exchange.target import MARK, mark, replaced
from kka.imaging.polygons import polygons
from kka.run.models import build_images


def shapes(size: int = 48) -> dict[str, np.ndarray]:
    """Masks that are not easy: a ring, a line one pixel wide, a single pixel, two parts, one up to the border."""
    y, x = np.mgrid[:size, :size]
    far = np.hypot(y - size / 2, x - size / 2)
    found = {
        "ring": (far < 20) & (far > 9), "two rings": ((far < 22) & (far > 17)) | ((far < 12) & (far > 6)),
        "line": np.abs(y - x) < 1, "across": y == 7, "pixel": (y == 3) & (x == 9),
        "two": ((y < 9) & (x < 9)) | ((y > 30) & (x > 20)), "all": y >= 0,
        "noise": np.random.default_rng(0).random((size, size)) < 0.4,
    }  # fmt: skip
    return {name: mask.astype(np.uint8) * 255 for name, mask in found.items()}


@pytest.fixture(scope="module")
def masked(finished: Path) -> Exported:
    """A pool whose every picture has a mask, as a model that alters normals leaves them."""
    exported = read_run(finished)
    rng = np.random.default_rng(0)
    masks = {entry.id: np.zeros((16, 16), np.uint8) for entry in exported.pool.entries}
    for mask in masks.values():
        top, left = rng.integers(0, 10, 2)
        mask[top : top + 5, left : left + 4] = 255
    return dataclasses.replace(exported, masks=masks, task=small_task())


def written(name: str, exported: Exported, out: Path) -> Path:
    with replaced(out) as folder:
        mark(folder, name, exported.facts | writer(name)(exported, folder, lambda *_: None))
    return out


def test_imagefolder_opens_in_datasets(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its imagefolder loader, picture by picture with its own caption; and as a bank of kka's own."""
    from datasets import load_dataset

    assert main(["pool", "export", str(finished), "--to", "imagefolder", "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "24 pictures" in told.out and "No masks" in told.err
    data = load_dataset("imagefolder", data_dir=str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    pool = AnomalyPool.load(finished / "pool.parquet")
    by_id = {row["id"]: row for row in data}
    assert len(by_id) == len(data) == len(pool) == 24
    for entry, image in zip(pool.entries, pool.images, strict=True):
        found = by_id[entry.id]
        assert (np.asarray(found["image"]) == image).all() and found["text"] == entry.caption
        assert found["hard"] == (entry.relative < 1) and found["relative_distance"] == pytest.approx(entry.relative)
    from kka.config import RunConfig

    bank = build_images(f"bank:{tmp_path / 'out'}", RunConfig(), small_task(test=False))
    assert len(bank.draw([pool.entries[0].caption], seeds=[0])) == 1


def test_masks_are_a_column(masked: Exported, tmp_path: Path) -> None:
    """Both of Hugging Face's forms; a picture and its mask must not part."""
    from datasets import load_dataset

    for name, given in (("imagefolder", {"path": "imagefolder", "data_dir": str(tmp_path / "imagefolder")}),
                        ("huggingface", {"path": str(tmp_path / "huggingface")})):  # fmt: skip
        written(name, masked, tmp_path / name)
        data = load_dataset(**given, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(data) == len(masked.pool)
        for row in data:
            assert (np.asarray(row["mask"].convert("L")) == masked.masks[row["id"]]).all()


def test_huggingface_opens_in_datasets(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the columns' types, in several files, and a card whose head the hub can read."""
    from datasets import load_dataset
    from huggingface_hub import DatasetCard

    monkeypatch.setattr("kka.exchange.huggingface.SHARD", 10)
    out = tmp_path / "out"
    assert main(["pool", "export", str(finished), "--to", "huggingface", "--out", str(out)]) == 0
    assert len(list((out / "data").glob("*.parquet"))) == 3
    data = load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    pool = AnomalyPool.load(finished / "pool.parquet")
    assert [row["id"] for row in data] == [entry.id for entry in pool.entries]
    assert (np.asarray(data[3]["image"]) == pool.images[3]).all() and data.features["hard"].dtype == "bool"
    card = DatasetCard.load(out / "README.md")
    assert card.data.size_categories == ["n<1K"] and card.data.license is None
    assert "24 pictures of imagined anomalies (flowers)" in card.text
    assert "language model `fake` | not known" in card.text
    with Image.open(out / "examples.png") as sheet:
        assert sheet.size == (16 * 8 + 4 * 7, 16)


def anomalib_reads(out: Path) -> dict[str, list[str]]:
    """What anomalib's Folder takes up, by its documentation: every image in each folder; of masks one for each
    abnormal picture, in the same order of names."""
    found = {name: sorted(file.name for file in (out / name).glob("*.png")) for name in ("normal", "abnormal", "masks")}
    assert found["masks"] in ([], found["abnormal"])
    return found


def test_anomalib_layout(masked: Exported, tmp_path: Path) -> None:
    """The layout that anomalib documents, by a literal reader; and the snippet names the folders that there are."""
    out = written("anomalib", masked, tmp_path / "out")
    found = anomalib_reads(out)
    assert masked.task is not None
    assert (len(found["normal"]), len(found["abnormal"]), len(found["masks"])) == (24, 24, 24)
    images = [np.asarray(Image.open(out / "normal" / name)) for name in found["normal"]]
    assert (np.stack(images) == masked.task.normals).all()
    assert 'mask_dir="masks"' in (out / "open_folder.py").read_text()
    out = written("anomalib", dataclasses.replace(masked, masks={}), tmp_path / "none")
    assert anomalib_reads(out)["masks"] == [] and "mask_dir" not in (out / "open_folder.py").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # anomalib's and its libraries' own
@pytest.mark.parametrize("masks", [True, False])
def test_anomalib_opens_it(masks: bool, masked: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By anomalib's own data module, as the snippet makes it."""
    pytest.importorskip("anomalib", reason="anomalib is not installed: pip install 'kka[anomalib]'")
    exported = masked if masks else dataclasses.replace(masked, masks={})
    out = written("anomalib", exported, tmp_path / "out")
    monkeypatch.syspath_prepend(str(out))
    monkeypatch.delitem(sys.modules, "open_folder", raising=False)
    import open_folder

    data = open_folder.datamodule(train_batch_size=4, eval_batch_size=4, num_workers=0)
    data.setup()
    assert len(data.train_data) == 24 - len(data.test_data) + 24
    labels = [int(item.gt_label) for item in data.test_data]
    assert sum(labels) == 24
    if masks:
        item = next(item for item in data.test_data if int(item.gt_label))
        name = Path(item.image_path).stem
        assert (np.asarray(item.gt_mask).squeeze() == (masked.masks[name] > 0)).all()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_coco_opens_in_pycocotools(masked: Exported, tmp_path: Path) -> None:
    """Polygons that cover what the masks cover, on the right picture."""
    from pycocotools.coco import COCO

    out = written("coco", masked, tmp_path / "out")
    coco = COCO(str(out / "annotations.json"))
    assert len(coco.getImgIds()) == len(masked.pool)
    for image in coco.loadImgs(coco.getImgIds()):
        assert (out / "images" / image["file_name"]).is_file()
        (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        mask = masked.masks[Path(image["file_name"]).stem] > 0
        assert (coco.annToMask(annotation).astype(bool) == mask).all()
        assert annotation["area"] == mask.sum() and annotation["bbox"][2:] == [4.0, 5.0]
    assert coco.loadCats(coco.getCatIds())[0]["name"] == "anomaly"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("name", shapes())
def test_polygons_cover_the_mask(name: str) -> None:
    """Of a ring its hole would be filled, and a thin line would have no outline at all."""
    from pycocotools import mask as rle

    mask = shapes()[name]
    outlines = polygons(mask > 0)
    drawn = rle.decode(rle.merge(rle.frPyObjects(outlines, *mask.shape))).astype(bool)
    both, either = (drawn & (mask > 0)).sum(), (drawn | (mask > 0)).sum()
    assert both / either > (0.9 if name == "noise" else 0.97), (both, either)
    assert sum(found["area"] for found in annotations_of(mask)) == pytest.approx((mask > 0).sum(), rel=0.12)


def test_masks_of_half_tones() -> None:
    """A soft edge counts from half of a pixel on; a defect that is soft everywhere counts whole; nothing is nothing."""
    soft = np.zeros((8, 8), np.uint8)
    soft[2:6, 2:6], soft[1, 2:6] = 200, 90
    assert sum(a["area"] for a in annotations_of(soft)) == 16
    assert sum(a["area"] for a in annotations_of(soft // 3)) == 20
    assert annotations_of(np.zeros((8, 8), np.uint8)) == []


def test_coco_without_masks_is_refused(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file without annotations would teach that nothing is anomalous. Nothing is left behind."""
    assert main(["pool", "export", str(finished), "--to", "coco", "--out", str(tmp_path / "out")]) == 2
    assert "COCO needs masks, and the pictures of run have none" in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_the_normals_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: Path) -> None:
    """anomalib's form holds the run's normals; other ones in their place are refused."""
    opened = dataclasses.replace(read_run(finished), task=None)
    monkeypatch.setattr(sources, "open_task", lambda *_, **__: small_task())
    monkeypatch.setattr(sources, "is_photos", lambda _: False)
    found = sources.open_normals(opened, finished)
    assert found.task is not None and (found.task.normals == small_task().normals).all()
    fewer = dataclasses.replace(small_task(), normals=small_task().normals[:9], captions=small_task().captions[:9])
    monkeypatch.setattr(sources, "open_task", lambda *_, **__: fewer)
    with pytest.raises(UserError, match=r"not those that .* was begun with \(24 then, 9 now\)"):
        sources.open_normals(opened, finished)
    assert open_task  # the real one is used by the command below


def test_rounds_and_unfinished_runs(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An earlier pool; that of a run which was stopped; and what there is none of."""
    first = read_run(finished, number=0)
    assert all(entry.round == 0 for entry in first.pool.entries) and np.isfinite(first.pool.relative).all()
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    (run / "summary.json").unlink()
    assert main(["pool", "export", str(run), "--to", "imagefolder", "--out", str(tmp_path / "out")]) == 0
    assert "not finished: this is its pool after round 2" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(UserError, match="expected a round from 0 to 2"):
        read_run(finished, number=3)
    with pytest.raises(UserError, match="there is none in"):
        read_run(tmp_path / "out")
    shutil.rmtree(run / "rounds")
    with pytest.raises(UserError, match="has no pool yet"):
        read_run(run)


def test_only_our_own_exports_are_overwritten(finished: Path, tmp_path: Path) -> None:
    """A folder of somebody's pictures must survive a slip of the hand; a failed export must leave the old one."""
    out = tmp_path / "out"
    command = ["pool", "export", str(finished), "--to", "imagefolder", "--out", str(out)]
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert main(command) == 2 and (out / "mine.txt").read_text() == "mine"
    (out / "mine.txt").unlink()
    assert main(command) == 0 and (out / MARK).is_file()
    assert main([*command, "--round", "0"]) == 0
    assert json.loads((out / MARK).read_text())["round"] == 0
    with pytest.raises(RuntimeError), replaced(out) as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert json.loads((out / MARK).read_text())["round"] == 0 and not (out / "half").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_options_that_do_not_fit(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--push` of another form, and `--public` without it."""
    command = ["pool", "export", str(finished), "--out", str(tmp_path / "out")]
    assert main([*command, "--to", "coco", "--push", "me/x"]) == 2
    assert main([*command, "--to", "huggingface", "--public"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "expected --to huggingface beside it" in told and "expected --push beside it" in told


def test_licences(tmp_path: Path) -> None:
    """Known ones, that of a folder's card, and no guess about others."""
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    assert licence_of("garden") == "apache-2.0" and licence_of(f"hf:{tmp_path}") == "mit"
    assert licence_of("hf:someone/something") == UNKNOWN and "looked up" in licence_of("bank:./x")
    (tmp_path / "README.md").write_text("---\n: [\n---\n")
    assert licence_of(f"diffusers:{tmp_path}") == UNKNOWN


AT = "https://huggingface.co/datasets/me/pool"
"""What the hub calls the data set; nothing asks there."""


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's protocol as an upload takes."""

    asked: ClassVar[list[tuple[str, Any]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.asked.append((path, body))
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self._answer({"error": "Invalid credentials"}, status=401)
        if path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            listed = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            return self._answer({"files": listed})
        if path.endswith("/commit/main"):
            oid = "a" * 40
            done = {"success": True, "commitUrl": f"{AT}/commit/{oid}", "commitOid": oid, "hookOutput": ""}
            return self._answer(done)
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        return self._answer({"url": AT, "name": "me/pool"})

    def do_GET(self) -> None:
        self.asked.append((self.path, b""))
        if self.headers.get("Authorization") != "Bearer hf_right":
            return self._answer({"error": "Invalid credentials"}, status=401)
        return self._answer({"id": "me/pool", "sha": "a" * 40, "siblings": []})

    def _answer(self, said: Any, status: int = 200) -> None:
        content = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def hub() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.asked.clear()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.filterwarnings("ignore")  # of huggingface_hub about itself
def test_push(masked: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of the export but our mark goes into one commit of a private repository; a wrong token is told in
    words."""
    out = written("huggingface", masked, tmp_path / "out")
    with hub() as endpoint:
        monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: "hf_right", raising=False)
        monkeypatch.setenv("HF_TOKEN", "hf_right")
        address = push(out, "me/pool", endpoint=endpoint)
        assert address == AT
        created = json.loads(next(body for path, body in Hub.asked if path == "/api/repos/create"))
        assert created.get("private") or created.get("visibility") == "private", created
        (commit,) = [body for path, body in Hub.asked if path.endswith("/commit/main")]
        lines = [json.loads(line) for line in commit.splitlines()]
        sent = {line["value"]["path"] for line in lines if line["key"] == "file"}
        assert sent == {"README.md", "examples.png", "data/train-00000-of-00001.parquet"}
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        with pytest.raises(UserError, match=r"--push: me/pool could not be written to the hub: .*401.* hf auth login"):
            push(out, "me/pool", endpoint=endpoint)
    for name in ("not a name/at all/", "me/pool"):  # and nobody there
        with pytest.raises(UserError, match=r"--push: .* could not be written to the hub"):
            push(out, name, endpoint="http://127.0.0.1:9")


def test_every_form_is_tested() -> None:
    """A new one would be held to nothing."""
    assert {*FORMATS} == {"imagefolder", "anomalib", "huggingface", "coco"}
