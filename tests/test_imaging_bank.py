"""The image library: nearest captions, each picture once, nothing that is forbidden."""

import io
import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kka.algorithm.pictures import draw_pictures
from kka.common.cache import pixel_hash
from kka.errors import UserError
from kka.imaging import bank as bank_module
from kka.imaging import build_image_model
from kka.imaging.bank import BankModel
from kka.imaging.library import read_library
from kka.protocols import ImageLibrary
from kka.settings.drawing import DrawingSettings
from kka.task import Knowledge
from reference.tfidf_retrieval import similarities


def _pictures(number: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, size, size, 3), np.uint8)


def _knowledge(captions: list[list[str]], images: np.ndarray | None = None) -> Knowledge:
    return Knowledge(
        images=_pictures(len(captions)) if images is None else images,
        captions=tuple(map(tuple, captions)),
        kinds=("flower",) * len(captions),
    )


LIBRARY = [
    ["a red flower with five round petals", "red petals around a yellow centre"],
    ["a blue flower with thin petals", "star shaped and blue"],
    ["a yellow flower in front of dark leaves"],
    ["a white flower, eight petals", "white petals and a yellow centre"],
]


def _keys(knowledge: Knowledge) -> list[str]:
    return [pixel_hash(image) for image in knowledge.images]


def test_a_caption_gets_the_picture_it_describes() -> None:
    """Retrieval that ignores the words would make the loop's captions meaningless."""
    knowledge = _knowledge(LIBRARY)
    bank = BankModel(knowledge)
    assert isinstance(bank, ImageLibrary)
    captions = ["thin blue petals", "round red petals", "eight white petals", "a yellow one before dark leaves"]
    order = [1, 0, 3, 2]
    assert bank.retrieve(captions, seeds=[0] * 4, taken=()) == [_keys(knowledge)[i] for i in order]
    np.testing.assert_array_equal(bank.draw(captions, seeds=[0] * 4), knowledge.images[order])


def test_similarity_is_the_formula() -> None:
    """A wrong weight, length or maximum would still return plausible pictures."""
    rng = np.random.default_rng(3)
    words = np.array(["red", "blue", "yellow", "white", "petals", "leaves", "round", "the", "a", "with", "flower"])
    library = [[" ".join(rng.choice(words, rng.integers(2, 7))) for _ in range(rng.integers(1, 4))] for _ in range(12)]
    asked = [" ".join(rng.choice(words, 5)) for _ in range(8)] + ["unknown words", "ROSES, blue petals!"]
    bank = BankModel(_knowledge(library))
    for caption, found in zip(asked, bank.similarities(asked), strict=True):
        np.testing.assert_allclose(found, similarities(caption, library), atol=1e-6)


def test_each_picture_comes_at_most_once() -> None:
    """A pool with copies counts one anomaly many times."""
    knowledge = _knowledge(LIBRARY)
    bank, keys = BankModel(knowledge), _keys(knowledge)
    given = bank.retrieve(["red petals"] * 3, seeds=[0, 1, 2], taken=())
    assert given[0] == keys[0]
    assert len(set(given)) == 3
    rest = bank.retrieve(["red petals"], seeds=[0], taken=set(given))
    assert set(given) | set(rest) == set(keys)
    assert bank.retrieve(["red petals"], seeds=[0], taken={keys[0], "unknown"}) != [keys[0]]


def test_retrieval_is_stateless_and_goes_on_from_taken() -> None:
    """A resumed run would get other pictures than one never stopped."""
    bank = BankModel(_knowledge(LIBRARY))
    captions = ["red petals", "yellow", "flower", "petals"]
    whole = bank.retrieve(captions, seeds=range(4), taken=())
    assert bank.retrieve(captions, seeds=range(4), taken=()) == whole
    first = bank.retrieve(captions[:2], seeds=range(2), taken=())
    assert first + bank.retrieve(captions[2:], seeds=range(2, 4), taken=first) == whole


def test_the_seed_chooses_among_equals() -> None:
    """With one caption for a whole class, the same first pictures would always be given."""
    bank = BankModel(_knowledge([["a photo of a cat"]] * 30 + [["a photo of a dog"]]))
    given = [bank.retrieve(["cat"], seeds=[seed], taken=())[0] for seed in range(40)]
    assert len(set(given)) > 15
    assert given == [bank.retrieve(["cat"], seeds=[seed], taken=())[0] for seed in range(40)]
    assert bank.keys[-1] not in given  # the dog is not among the equals


def test_an_exhausted_library_gives_the_counts() -> None:
    """A run would go on with fewer pictures than it reports."""
    bank = BankModel(_knowledge([*LIBRARY, []]))
    with pytest.raises(UserError, match=r"expected 3 more pictures.*got 2 left of 4 \(1 no caption\)"):
        bank.retrieve(["a", "b", "c"], seeds=range(3), taken=bank.keys[:2])


def test_copies_in_the_library_count_as_one() -> None:
    """A picture that the library holds twice would come twice in a run."""
    images = _pictures(4)
    images[2] = images[0]
    bank = BankModel(_knowledge([["red"], ["blue"], ["crimson"], ["white"]], images))
    assert (len(bank), bank.left_out["duplicate"]) == (3, 1)
    for name in ("red", "crimson"):  # both captions lead to the one picture
        assert bank.retrieve([name], seeds=[0], taken=()) == [pixel_hash(images[0])]


def test_forbidden_blank_and_uncaptioned_pictures_are_left_out_and_counted() -> None:
    """A test picture would get into the training set by way of the library."""
    images = _pictures(5)
    images[1] = 77
    knowledge = _knowledge([["red"], ["blue"], [" ", ""], ["white"], ["red"]], images)
    bank = BankModel(knowledge, forbidden_hashes={pixel_hash(images[0]), "other"})
    assert bank.left_out == {"forbidden": 1, "no caption": 1, "one colour": 1, "duplicate": 0}
    assert set(bank.keys) == {pixel_hash(images[3]), pixel_hash(images[4])}
    assert bank.retrieve(["red"], seeds=[0], taken=()) == [pixel_hash(images[4])]
    with pytest.raises(UserError, match="expected keys of its pictures"):
        bank.fetch([pixel_hash(images[0])])


@pytest.mark.parametrize("captions", [[["red"]] * 2, [[]] * 2, [["?!"]] * 2])
def test_a_library_with_nothing_to_give_is_refused(captions: list[list[str]]) -> None:
    """An empty library would fail in the middle of a run, or with an error from scikit-learn."""
    knowledge = _knowledge(captions)
    forbidden = set(_keys(knowledge)) if captions[0] == ["red"] else set()
    with pytest.raises(UserError, match=r"expected pictures with captions; got 2 pictures|expected words"):
        BankModel(knowledge, forbidden_hashes=forbidden)


def test_identity_follows_the_content() -> None:
    """Drawings of one library would be taken for those of another."""
    bank = BankModel(_knowledge(LIBRARY))
    other = BankModel(_knowledge([["another"], *LIBRARY[1:]]))
    assert bank.identity == BankModel(_knowledge(LIBRARY)).identity != other.identity


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures would depend on how much is computed at a time."""
    captions = ["red petals", "yellow", "flower", "unheard-of", "petals"] * 3
    bank = BankModel(_knowledge(LIBRARY * 5, _pictures(20)))
    whole = bank.retrieve(captions, seeds=range(15), taken=())
    monkeypatch.setattr(bank_module, "CHUNK_BYTES", 1)
    assert bank.retrieve(captions, seeds=range(15), taken=()) == whole


def test_a_large_library_is_searched_in_seconds() -> None:
    """A search of all captions in Python would take minutes a round (the bound is generous: 1.3 s were measured)."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(300)])

    def sentences(number: int) -> list[str]:
        return [" ".join(row) for row in words[(300 * rng.random((number, 12)) ** 2).astype(int)]]

    written = sentences(20_000)
    knowledge = _knowledge([written[4 * i : 4 * i + 4] for i in range(5_000)], _pictures(5_000, 4))
    bank = BankModel(knowledge)
    start = time.perf_counter()
    given = bank.retrieve(sentences(400), seeds=range(400), taken=())
    assert time.perf_counter() - start < 10
    assert len(set(given)) == 400


def test_drawing_from_a_library_with_draw_pictures() -> None:
    """The library and Eq. 4 would not fit together."""
    knowledge = _knowledge(LIBRARY)
    drawn = draw_pictures(build_image_model("bank:train", knowledge=knowledge), ["blue"], seeds=[0], size=(4, 4))
    assert drawn.keys == (pixel_hash(knowledge.images[1]),)
    assert drawn.images.shape == (1, 4, 4, 3)


def test_the_bank_of_a_task_without_other_classes_says_what_to_do() -> None:
    """A person with a folder of normals alone would see an attribute error."""
    with pytest.raises(UserError, match=r"captioned training images of other classes.*bank:FOLDER"):
        build_image_model("bank")


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT on disk, of which Sentence Transformers takes the mean of the word vectors."""
    pytest.importorskip("sentence_transformers", reason="the optional package sentence-transformers is absent")
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("sentence")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "crimson", "blue", "azure", "flower"]
    BertTokenizerFast(vocab={name: i for i, name in enumerate(names)}).save_pretrained(folder / "bert")
    torch.manual_seed(0)
    network = BertModel(
        BertConfig(
            vocab_size=len(names), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
    )
    table = network.embeddings.word_embeddings.weight.data
    table.normal_(std=3.0)
    table[6] = table[5] + 0.01  # crimson is nearly red, azure nearly blue: TF-IDF cannot know
    table[8] = table[7] + 0.01
    network.save_pretrained(folder / "bert")
    return folder / "bert"


def test_sentence_embeddings_know_synonyms(sentence_model: Path) -> None:
    """The option would be ignored in silence."""
    knowledge = _knowledge([["red flower"], ["blue flower"]])
    bank = build_image_model(
        "bank", knowledge=knowledge, settings=DrawingSettings(embedding=f"hf:{sentence_model}"), device="cpu"
    )
    assert isinstance(bank, ImageLibrary)
    given = [bank.retrieve([text], seeds=[0], taken=())[0] for text in ("azure flower", "crimson flower")]
    assert given == _keys(knowledge)[::-1]


def test_a_missing_embedding_says_what_was_expected(tmp_path: Path) -> None:
    """A wrong folder would end in a traceback of another library."""
    pytest.importorskip("sentence_transformers", reason="the optional package sentence-transformers is absent")
    with pytest.raises(UserError, match=r"embedding: expected hf:.*got 'hf:.*nothing-here'"):
        BankModel(_knowledge(LIBRARY), settings=DrawingSettings(embedding=f"hf:{tmp_path}/nothing-here"))


def _write_parquet(path: Path, images: np.ndarray, captions: list[list[str]]) -> None:
    rows = []
    for image in images:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="PNG")
        rows.append({"bytes": buffer.getvalue(), "path": None})
    table = {"image": rows, "label": [0] * len(rows), "label_name": ["x"] * len(rows), "captions": captions}
    pq.write_table(pa.table(table), path)


def _write_images(folder: Path, images: np.ndarray, captions: list[list[str]]) -> None:
    folder.mkdir()
    lines = []
    for i, (image, given) in enumerate(zip(images, captions, strict=True)):
        Image.fromarray(image).save(folder / f"{i} é.png")
        if given:
            lines.append(json.dumps({"file_name": f"{i} é.png", "captions": given}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))


@pytest.mark.parametrize("form", ["parquet", "images"])
def test_a_folder_is_a_library_of_its_training_images(tmp_path: Path, form: str) -> None:
    """A test picture, or a picture under a wrong caption, would come from the library."""
    images = _pictures(8, 16)
    captions = [["a red flower"], [], ["a blue flower", "azure"], ["a white flower"]]
    if form == "parquet":
        _write_parquet(tmp_path / "train.parquet", images[:4], captions)
        _write_parquet(tmp_path / "test.parquet", images[4:], captions)
    else:
        _write_images(tmp_path / "train", images[:4], captions)
        _write_images(tmp_path / "test", images[4:], captions)
    bank = build_image_model(f"bank:{tmp_path}", forbidden_hashes={pixel_hash(images[3])})
    assert isinstance(bank, BankModel)
    assert {*bank.keys} == {pixel_hash(images[0]), pixel_hash(images[2])}
    assert bank.left_out["forbidden"] == 1
    np.testing.assert_array_equal(bank.draw(["azure", "red"], seeds=[0, 0]), images[[2, 0]])


def test_an_image_folder_without_train_leaves_test_out(tmp_path: Path) -> None:
    """Pictures of test/ would be in the library of a folder that has no train/."""
    images = _pictures(2, 16)
    _write_images(tmp_path / "a", images[:1], [["a red flower"]])
    _write_images(tmp_path / "test", images[1:], [["a blue flower"]])
    np.testing.assert_array_equal(read_library(str(tmp_path)).images, images[:1])


def test_unreadable_pictures_of_a_folder_are_named(tmp_path: Path) -> None:
    """A damaged picture would stop a run, or vanish in silence."""
    images = _pictures(12, 16)
    _write_images(tmp_path / "a", images, [[f"flower {i}"] for i in range(12)])
    (tmp_path / "a" / "3 é.png").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match=r"1 left out: a/3 é\.png"):
        knowledge = read_library(str(tmp_path))
    assert len(knowledge.images) == 11
    assert knowledge.captions[3] == ("flower 4",)


def test_folders_that_are_no_library_say_what_was_expected(tmp_path: Path) -> None:
    """A wrong folder would end in a traceback."""
    with pytest.raises(UserError, match="got no folder there"):
        read_library(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"images with captions in metadata\.jsonl; got none"):
        read_library(str(tmp_path))
    pq.write_table(pa.table({"image": ["x"], "label": [0]}), tmp_path / "train.parquet")
    with pytest.raises(UserError, match="expected the columns image and captions; got image, label"):
        read_library(str(tmp_path))
    (tmp_path / "train.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        read_library(str(tmp_path))


def test_the_shared_library_of_flowers_gives_flowers_of_the_colour() -> None:
    """On real captions, retrieval would give pictures that have nothing to do with the words."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "oxford102"
    if not folder.is_dir():
        pytest.skip("the shared data sets are not here")
    bank = build_image_model(f"bank:{folder}", settings=DrawingSettings(size=32))
    assert isinstance(bank, BankModel)
    drawn = draw_pictures(
        bank, ["a red flower with red petals"] * 50 + ["a yellow flower with yellow petals"] * 50, seeds=range(100)
    )
    assert len(set(drawn.keys)) == 100
    middle = drawn.images[:, 8:24, 8:24].mean((1, 2))
    red, yellow = middle[:50].mean(0), middle[50:].mean(0)
    assert red[0] > 1.5 * red[1]
    assert yellow[1] > 1.5 * yellow[2]
    assert yellow[1] > red[1] + 40
