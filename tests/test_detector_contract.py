"""The contract of every detector: one test body each, run over all of them."""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import TypeCheckError

from kka.detectors import (
    DETECTORS,
    build_detector,
    fit_detector,
    is_of_family,
    learns_from_anomalies,
    load_detector,
)
from kka.errors import UserError
from kka.protocols import Detector, Embeds, Exports, HasSettings, Images, Localises, Trained
from kka.settings.backbone import BackboneSettings

BACKBONE = BackboneSettings(name="mobilenetv2_035", weights="random")
QUICK = {
    "sad": ("epochs=1", "milestones=", "precision=fp32"),
    "ssd": ("epochs=1",),
    "cmda": ("image_epochs=1", "generation_epochs=1"),
    "simplenet": ("epochs=2", "size=64", "crop=64"),
    "patchcore": ("size=64", "crop=64"),
    "dfm": ("size=64", "crop=64"),
    "recontrast": ("iterations=3", "size=64"),
    "anomalib:padim": ("size=64",),
    "anomalib:patchcore": ("size=64",),
    "anomalib:stfpm": ("size=64", "epochs=2"),
    "anomalib:supersimplenet": ("size=128", "epochs=2"),
}
"""Settings on top of the `cpu` preset, for a fit within seconds."""
LONG = {
    "sad": ("epochs=15", "milestones=", "precision=fp32", "learning_rate=0.001"),
    "ssd": ("epochs=10", "precision=fp32"),
    "cmda": ("image_epochs=12", "generation_epochs=6", "precision=fp32"),
    "simplenet": ("epochs=12", "size=64", "crop=64", "noise_weight=0.1", "score_top=0.5"),
    "patchcore": ("size=64", "crop=64"),
    "dfm": ("size=64", "crop=64", "anomaly_weight=20"),
    "recontrast": ("iterations=20", "size=64", "margin=2", "anomaly_weight=4"),
    "anomalib:padim": ("size=64",),
    "anomalib:patchcore": ("size=64",),
    "anomalib:stfpm": ("size=64", "epochs=30"),
}
"""Settings on top of the `cpu` preset, for a fit that learns something."""
LONGER = LONG | {
    "ssd": ("epochs=60", "precision=fp32", "learning_rate=0.03"),
    "recontrast": ("iterations=60", "size=64"),
}
"""For a loss that falls by more than chance."""
pytestmark = pytest.mark.filterwarnings("ignore:.*learns from normals alone")
MARGIN = 0.7
"""In standard deviations of the scores."""
FALL = {"anomalib:stfpm": 0.9, "sad": 0.5, "simplenet": 0.6, "recontrast": 0.92, "cmda": 0.95, "ssd": 0.96}
"""What the last quarter of the losses may be of the first."""
NAMES = sorted(QUICK)
OF_ANOMALIB = tuple(name for name in NAMES if is_of_family(name))
"""Four of its models; of the others `test_anomalib.py` tells."""
QUICKEST = "anomalib:padim"
"""The one whose contract is not left to the slow tests."""
BACKBONED = ("dfm", "patchcore", "simplenet", "recontrast", *OF_ANOMALIB)
UNTRAINED = ("dfm", "patchcore", "anomalib:patchcore", "anomalib:padim")
"""No gradients: no loss that could fall, and no training that could diverge."""


def pictures(n: int, seed: int = 0, size: int = 32) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def build(name: str, seed: int = 1, overrides: tuple[str, ...] | None = None) -> Detector:
    backbone = BACKBONE if name in BACKBONED else None
    return build_detector(name, preset="cpu", overrides=overrides or QUICK[name], backbone=backbone, seed=seed)


def captions(n: int) -> list[str]:
    colours = ("red", "blue", "white", "green")
    return [f"a {colours[i % 4]} flower with {3 + i % 3} petals" for i in range(n)]


SLOW = [pytest.param(n, marks=pytest.mark.slow) if n in OF_ANOMALIB and n != QUICKEST else n for n in NAMES]


@pytest.fixture(scope="module", params=SLOW)
def name(request: pytest.FixtureRequest) -> str:
    if request.param in OF_ANOMALIB:
        pytest.importorskip("anomalib", reason="anomalib is not installed: pip install 'kka[anomalib]'")
    return str(request.param)


def needs_anomalies(name: str) -> None:
    """Skips a test of what anomalies do, for a detector that learns from normals alone, and says so."""
    if not learns_from_anomalies(name):
        pytest.skip("this method learns from normals alone")


@pytest.fixture(scope="module")
def fitted(name: str) -> Detector:
    hard = np.arange(5) % 2 == 0
    return fit_detector(build(name), pictures(12), pictures(5, seed=1), captions=captions(12), hard=hard)


def test_all_are_here() -> None:
    """A detector that is registered and not tested here would be bound by nothing."""
    assert sorted([*DETECTORS, *OF_ANOMALIB]) == NAMES and len(DETECTORS) == 7 and len(OF_ANOMALIB) == 4


@pytest.mark.filterwarnings("ignore:.*masked over more than")
def test_masks(name: str) -> None:
    """A mask that is empty, or covers everything, is no reason for a number that is none; one of another shape is."""
    if "masks" not in getattr(build(name), "takes", ()):
        pytest.skip("this method takes images alone")
    odd, masks = pictures(4, seed=1), np.zeros((4, 32, 32), np.uint8)
    masks[1], masks[2, :3, :5], masks[3, 31, 31] = 255, 128, 1
    scores = []
    for given in (masks, 0 * masks, np.full_like(masks, 255), None):
        detector = fit_detector(build(name), pictures(12), odd, captions=captions(12), masks=given)
        scores.append(detector.score(pictures(5, seed=2)))
        assert np.isfinite(scores[-1]).all()
    assert not np.allclose(scores[0], scores[3])
    with pytest.raises(UserError, match=r"masks: expected uint8 of shape \(4, 32, 32\)"):
        fit_detector(build(name), pictures(12), odd, captions=captions(12), masks=masks[:, :9])


def test_scores(fitted: Detector) -> None:
    """One finite number an image, whatever its content: constant and all-black images too."""
    assert isinstance(fitted, Detector)
    images = pictures(7, seed=2)
    images[0], images[1], images[2] = 0, 255, 128
    scores = fitted.score(images)
    assert scores.shape == (7,) and scores.dtype == np.float32 and np.isfinite(scores).all()
    assert len(np.unique(scores[2:])) > 1
    assert fitted.score(images[:0]).shape == (0,)


def test_fit_returns_itself(name: str) -> None:
    """As scikit-learn's do: `build(…).fit(normals).score(images)`."""
    detector = build(name)
    assert detector.fit(pictures(8)) is detector


@pytest.mark.slow
def test_training_lowers_the_loss_and_higher_is_more_anomalous(name: str) -> None:
    """Normals alone, all of one kind: what is far from them must score higher, on the mean, than more of them. A
    detector that never trained passes every other test of its scores."""
    if name not in LONG:
        pytest.skip("what it learns is tested in test_anomalib.py")
    margins = []
    for seed in (0, 1, 2):
        detector = fit_detector(build(name, seed, overrides=LONG[name]), _smooth(16, 0), captions=captions(16))
        near, far = detector.score(_smooth(16, 1)), detector.score(pictures(16, seed=3))
        margins.append((far.mean() - near.mean()) / np.concatenate([near, far]).std())
        assert near.std() > 0, "scores vary among normals as well"
    # the medians of three seeds lie beyond twice what is asked for
    assert np.median(margins) > MARGIN, (name, margins)
    if name in UNTRAINED:
        assert not isinstance(detector, Trained)
        return
    detector = fit_detector(build(name, overrides=LONGER[name]), _blobs(16), captions=captions(16))
    assert isinstance(detector, Trained)
    part = max(1, len(detector.losses_) // 4)
    fall = np.mean(detector.losses_[-part:]) / np.mean(detector.losses_[:part])
    assert fall < FALL[name], (name, fall)


def _blobs(n: int) -> Images:
    """Pictures that a network can tell apart after any crop."""
    return np.random.default_rng(0).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def _smooth(n: int, seed: int) -> Images:
    rng = np.random.default_rng(seed)
    ramp = np.linspace(60, 180, 32)[None, :, None, None] * np.ones((n, 1, 32, 3))
    return (ramp + rng.normal(0, 8, (n, 1, 1, 3))).clip(0, 255).astype(np.uint8)


def test_batches_do_not_matter(fitted: Detector) -> None:
    """An image's score is its own: alone, in a batch, or in a batch of many."""
    images = pictures(9, seed=4)
    together = fitted.score(images)
    alone = np.concatenate([fitted.score(images[i : i + 1]) for i in range(9)])
    np.testing.assert_allclose(alone, together, rtol=2e-4, atol=1e-6)
    many = fitted.score(np.concatenate([images] * 30))
    np.testing.assert_allclose(many[:9], together, rtol=2e-4, atol=1e-6)


def test_equal_seeds_are_equal(name: str, fitted: Detector) -> None:
    """The same seed on the same machine: the same scores to the bit; another seed: others."""
    hard = np.arange(5) % 2 == 0
    images, rest = pictures(4, seed=5), dict(captions=captions(12), hard=hard)
    again = fit_detector(build(name), pictures(12), pictures(5, seed=1), **rest)
    other = fit_detector(build(name, seed=2), pictures(12), pictures(5, seed=1), **rest)
    assert (again.score(images) == fitted.score(images)).all()
    assert (other.score(images) != fitted.score(images)).any()


def test_the_global_random_state_is_left_alone(name: str) -> None:
    """A detector that reseeds torch or NumPy would change what the rest of the program draws."""
    import torch

    torch.manual_seed(7)
    np.random.seed(7)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    build(name).fit(pictures(8), pictures(2, seed=1))
    assert (torch.get_rng_state() == before[0]).all()
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]


def test_few_and_other_sizes(name: str) -> None:
    """Eight normals, one anomaly, and images of another size, in training and in scoring."""
    detector = build(name).fit(pictures(8), pictures(1, seed=1, size=24))
    assert np.isfinite(detector.score(pictures(3, seed=2, size=80))).all()


def test_anomalies_matter(name: str, fitted: Detector) -> None:
    """A detector that overlooks its anomalies gains nothing from KKA."""
    needs_anomalies(name)
    plain = fit_detector(build(name), pictures(12), None, captions=captions(12))
    assert (plain.score(pictures(4, seed=5)) != fitted.score(pictures(4, seed=5))).any()


@pytest.mark.slow
def test_what_is_labelled_anomalous_becomes_so(name: str) -> None:
    """Of two kinds, red and blue patches, the one that stood among the anomalies must score higher beside the other
    than where the other stood there: a term of the wrong sign, or on the wrong images, turns this about."""
    needs_anomalies(name)
    if name not in LONG:
        pytest.skip("what it learns is tested in test_anomalib.py")

    def patches(n: int, seed: int, channel: int) -> Images:
        images = _smooth(n, seed).astype(int)
        images[:, 8:24, 8:24, channel] += 70
        return images.clip(0, 255).astype(np.uint8)

    def red_over_blue(channel: int, seed: int) -> float:
        detector = build(name, seed, overrides=LONG[name])
        easy = np.zeros(16, dtype=bool)
        fit_detector(detector, _smooth(16, 0), patches(16, 5, channel), captions=captions(16), hard=easy)
        red, blue = (detector.score(patches(16, 8, kind)) for kind in (0, 2))
        return float((red - blue).mean() / np.concatenate([red, blue]).std())

    # One training's rounding may turn one seed about; the median of three is above twice what is asked for.
    assert np.median([red_over_blue(0, seed) - red_over_blue(2, seed) for seed in (0, 1, 2)]) > 0.5


def test_copies_of_normals_are_named(name: str) -> None:
    """An anomaly that is a normal says that one picture is both: it is left out, and how many were is told."""
    needs_anomalies(name)
    normals, anomalies = pictures(8), pictures(4, seed=1)
    with pytest.warns(UserWarning, match="3 of 7 anomalies are copies of normals"):
        mixed = build(name).fit(normals, np.concatenate([anomalies, normals[:3]]))
    images = pictures(4, seed=5)
    assert (mixed.score(images) == build(name).fit(normals, anomalies).score(images)).all()
    with pytest.warns(UserWarning, match="8 of 8 anomalies"):
        alone = build(name).fit(normals, normals)
    assert (alone.score(images) == build(name).fit(normals).score(images)).all()


def test_constant_training_images(name: str) -> None:
    """Normals that are all black, and all alike: no variance anywhere, and still finite scores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = build(name).fit(np.zeros((8, 32, 32, 3), np.uint8), np.full((3, 32, 32, 3), 255, np.uint8))
    assert np.isfinite(detector.score(pictures(3))).all()


def test_wrong_input_is_refused(name: str) -> None:
    """Grey images, floats and nothing at all, in words."""
    for wrong in (np.zeros((8, 32, 32), np.uint8), np.zeros((8, 32, 32, 3), np.float32)):
        # in the tests the shape in the signature refuses first; in use it is `checked` (below)
        with pytest.raises((UserError, TypeCheckError), match=r"expected RGB images|'_n _h _w 3'"):
            build(name).fit(wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="at least one image"):
        build(name).fit(pictures(0))


def test_wrong_input_is_refused_in_use() -> None:
    """Outside of the tests nothing checks shapes but `checked`: each detector says in words what it expected."""
    code = (
        "import numpy as np; from kka.detectors import DETECTORS, build_detector; from kka.errors import UserError\n"
        "for name in DETECTORS:\n"
        "    for wrong in (np.zeros((8, 32, 32), np.uint8), np.zeros((8, 32, 32, 3), np.float32)):\n"
        "        try: build_detector(name).fit(wrong)\n"
        "        except UserError as error: print(name, error)\n"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 14 and all("normals: expected RGB images as an array of uint8" in line for line in lines)
    assert "got float32 of shape (8, 32, 32, 3)" in lines[1]


def test_save_and_load_in_a_fresh_process(fitted: Detector, tmp_path: Path) -> None:
    """To the last bit, without the caller knowing what kind it is."""
    images = pictures(6, seed=6)
    fitted.save(tmp_path / "detector")
    if getattr(fitted, "name", None) == QUICKEST:  # anomalib takes ten seconds to be imported; others of it do that
        assert (load_detector(tmp_path / "detector").score(images) == fitted.score(images)).all()
        return
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy as np, torch; torch.set_num_threads(1)\n"
        "from pathlib import Path; from kka.detectors import load_detector; from kka.protocols import Localises\n"
        "here = Path(sys.argv[1]); d = load_detector(here / 'detector')\n"
        "np.save(here / 'scores.npy', d.score(np.load(here / 'images.npy')))\n"
        "if isinstance(d, Localises): np.save(here / 'maps.npy', d.score_map(np.load(here / 'images.npy')))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], check=True)
    assert (np.load(tmp_path / "scores.npy") == fitted.score(images)).all()
    if isinstance(fitted, Localises):
        assert (np.load(tmp_path / "maps.npy") == fitted.score_map(images)).all()


def test_maps(fitted: Detector) -> None:
    """Where the method localises: a finite value for each pixel of the image as it came."""
    if not isinstance(fitted, Localises):
        pytest.skip("this method does not localise")
    maps = fitted.score_map(pictures(3, seed=7, size=48))
    assert maps.shape == (3, 48, 48) and np.isfinite(maps).all() and maps.std() > 0


def test_embeddings(fitted: Detector) -> None:
    """Where the method has a latent space: a run stores it for its report, and a crash there would lose the run."""
    if not isinstance(fitted, Embeds):
        pytest.skip("this method has no latent space of images")
    latent = fitted.embed(pictures(3, seed=7, size=48))
    assert latent.shape[0] == 3 and latent.ndim == 2 and np.isfinite(latent).all() and latent.std() > 0


def test_damaged_weights_are_refused(fitted: Detector, tmp_path: Path) -> None:
    """A folder whose parts were mixed must not load in part."""
    from safetensors.torch import load_file, save_file

    fitted.save(tmp_path)
    weights = next(tmp_path.glob("*.safetensors"))
    tensors = load_file(weights)
    tensors.pop(sorted(name for name in tensors if tensors[name].is_floating_point() and tensors[name].ndim > 1)[0])
    save_file(tensors, weights)
    with pytest.raises(UserError, match="do not fit"):
        load_detector(tmp_path)
    for file in (weights, tmp_path / "detector.json"):  # cut short, as a full disk leaves them; and gone
        fitted.save(tmp_path)
        file.write_bytes(file.read_bytes()[:40])
        with pytest.raises(UserError, match=r"damaged.*anew"):
            load_detector(tmp_path)
    fitted.save(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match=r"missing.*anew"):
        load_detector(tmp_path)


def test_the_exported_graph_is_the_score(fitted: Detector) -> None:
    """`graph()` is what goes to the edge: from pixels to the same numbers."""
    import torch

    assert isinstance(fitted, Exports)
    images = pictures(5, seed=8, size=72)
    with torch.no_grad():
        scores = fitted.graph()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(scores, fitted.score(images), rtol=1e-5, atol=1e-6)


def test_a_training_that_diverges_is_an_error(name: str, tmp_path: Path) -> None:
    """Scores that are NaN lie above no threshold: every image would be normal, and nobody would know why."""
    if name in UNTRAINED or name in OF_ANOMALIB:
        pytest.skip("nothing is trained, or test_anomalib.py does it")
    detector = build(name)
    assert isinstance(detector, HasSettings)
    object.__setattr__(detector.settings, "learning_rate", 1e30)  # type: ignore[attr-defined]  # beyond its rule
    with pytest.raises(UserError, match=r"expected finite numbers; got .* lower learning rate"):
        fit_detector(detector, pictures(12), pictures(5, seed=1), captions=captions(12)).score(pictures(2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_neither_kept_nor_loaded(
    value: float, fitted: Detector, tmp_path: Path
) -> None:
    """A file with NaN in it would load, and call everything normal."""
    from safetensors.torch import load_file, save_file

    fitted.save(tmp_path / "whole")
    weights = next((tmp_path / "whole").glob("*.safetensors"))
    tensors = load_file(weights)
    place = sorted(key for key in tensors if tensors[key].is_floating_point() and tensors[key].ndim > 1)[0]
    tensors[place].view(-1)[0] = value
    save_file(tensors, weights)
    with pytest.raises(UserError, match=r"weights in .*safetensors: expected finite numbers; got NaN or infinity in"):
        load_detector(tmp_path / "whole")
    assert isinstance(fitted, Exports)
    parameter = next(p for p in fitted.graph().parameters() if p.ndim > 1)
    before = parameter.detach().clone()
    parameter.data[(0,) * parameter.ndim] = value
    try:
        with pytest.raises(UserError, match="weights: expected finite numbers"):
            fitted.save(tmp_path / "diverged")
        assert not (tmp_path / "diverged").exists()
    finally:
        parameter.data.copy_(before)


def test_a_detector_of_another_machine(fitted: Detector, tmp_path: Path) -> None:
    """Trained on the eighth GPU and used on a laptop: it works there, and says so; a slip is refused as one."""
    fitted.save(tmp_path)
    card = json.loads((tmp_path / "detector.json").read_text())
    card["settings"]["device"] = "cuda:7"
    (tmp_path / "detector.json").write_text(json.dumps(card))
    with pytest.warns(UserWarning, match=r"no device cuda:7, which its detector\.json names"):
        loaded = load_detector(tmp_path)
    images = pictures(3, seed=2)
    np.testing.assert_allclose(loaded.score(images), fitted.score(images), rtol=1e-3)
    card["settings"]["device"] = "banana"
    (tmp_path / "detector.json").write_text(json.dumps(card))
    with pytest.raises(UserError, match=r"expected a device .*; got 'banana'\. Write auto"):
        load_detector(tmp_path)


@pytest.mark.parametrize("text", ['{"seed": NaN}', '{"seed": -Infinity}', '{"seed": 1e999}', "[1]", "1"])
def test_a_card_with_numbers_that_are_none(text: str, tmp_path: Path) -> None:
    """JSON as Python reads it has NaN, and 1e999 is infinite: neither may become a threshold."""
    (tmp_path / "detector.json").write_text(text)
    with pytest.raises(UserError, match=r"detector\.json.*(got (NaN|-Infinity|1e999|list|int)).*anew"):
        load_detector(tmp_path)
