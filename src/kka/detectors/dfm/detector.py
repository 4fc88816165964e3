"""DFM, deep feature modelling (Ahuja et al. 2019, https://arxiv.org/abs/1909.11786), by feature reconstruction error
(Ndiour et al. 2020, https://arxiv.org/abs/2012.04250), with a way in for anomalies.

A frozen backbone's map of a photo is one vector. The normals' principal directions hold nearly all of what normals
differ in; a photo's score is what they leave of it (`network`). Nothing is trained; features are computed once.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from kka.common.device import choose_device
from kka.common.mapped import taken
from kka.common.progress import Progress
from kka.detectors.backbones import load_backbone
from kka.detectors.dfm.network import DFMGraph, PooledMaps, Subspace
from kka.detectors.dfm.settings import DFMSettings
from kka.detectors.dfm.training import fit_subspaces, some_of
from kka.detectors.features import cached_features, fingerprint
from kka.detectors.graph import Preprocess, covered, in_batches
from kka.detectors.inputs import checked_with_masks
from kka.detectors.patch_images import images_at_once, score_maps
from kka.detectors.saving import device_here, load_into, read_card, read_tensors, settings_from, write
from kka.protocols import Images, Masks, Scores
from kka.settings.backbone import BackboneSettings


class DFM:
    """What the normals' principal directions leave of a photo's features. Score: higher = more anomalous.

    `fit` sets `graph_`.

    Example:
        >>> detector = build_detector("dfm", preset="cpu", backbone=BackboneSettings(name="mobilenetv2_100"))
        >>> detector.fit(normals)
        >>> detector.score(images)  # (n,), higher = more anomalous
    """

    SETTINGS = DFMSettings
    PRESETS: ClassVar = {
        "published": DFMSettings(),
        "small": DFMSettings(size=128, crop=128, pools=(2, 8), map_pool=2, most=1000),
        "cpu": DFMSettings(size=128, crop=128, pools=(2, 8), map_pool=1, most=2000),
    }
    takes = frozenset({"masks"})

    def __init__(
        self, *, settings: DFMSettings | None = None, backbone: BackboneSettings | None = None, seed: int = 0,
        progress: Progress | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings or DFMSettings()
        self.backbone = backbone or BackboneSettings()
        self.seed = seed
        self.progress = progress

    @property
    def input_size(self) -> int:
        """Larger images are of no use to it, in pixels a side."""
        return self.settings.size

    def check_weights(self) -> None:
        """Load the backbone and let it go: what is wrong with the weights shows before hours of work."""
        load_backbone(self.backbone, strides=(self.settings.stride,))

    def fit(self, normals: Images, anomalies: Images | None = None, *, masks: Masks | None = None) -> "DFM":
        """Compute the features once, or find them in the cache, and their subspaces.

        `masks`: where each anomaly is one; the rest of it teaches nothing.
        """
        normals, anomalies, masks = checked_with_masks(normals, anomalies, masks)
        settings, device = self.settings, choose_device(self.settings.device)
        normals = taken(normals, some_of(len(normals), settings.most, self.seed, "normals"))
        if anomalies is not None:
            some = some_of(len(anomalies), settings.most, self.seed, "anomalies")
            anomalies, masks = taken(anomalies, some), None if masks is None else taken(masks, some)
        extract = _extractor(settings, self.backbone, seed=self.seed)
        extract = extract.to(device).to(memory_format=torch.channels_last)
        identity = fingerprint(
            extract, size=settings.size, crop=settings.crop, stride=settings.stride, pools=settings.poolings,
            name=self.backbone.name, padding=self.backbone.padding, device=device.type,
        )  # fmt: skip
        batch = images_at_once(settings)
        cover = None if masks is None else _cover(masks, extract, settings.mask_from)
        with cached_features(normals, extract, device, identity=identity, batch=batch) as of_normals:
            if self.progress is not None:
                self.progress(1, 2)
            if anomalies is None:
                found = fit_subspaces(of_normals, None, extract.lengths, settings=settings)
            else:
                with cached_features(anomalies, extract, device, identity=identity, batch=batch) as of_anomalies:
                    found = fit_subspaces(of_normals, of_anomalies, extract.lengths, settings=settings, cover=cover)
        if self.progress is not None:
            self.progress(2, 2)
        self.graph_ = DFMGraph(extract, found, settings).to(device).eval()
        return self

    def score(self, images: Images) -> Scores:
        """(n,): higher = more anomalous."""
        return in_batches(self.graph_, images, self._device, batch=images_at_once(self.settings))

    def score_map(self, images: Images) -> Float32[np.ndarray, "n h w"]:
        """(n, h, w) at the images' own size: higher = more anomalous. Outside the crop its border's values go on."""
        return score_maps(self.graph_.maps, images, self.settings, self._device, batch=images_at_once(self.settings))

    def graph(self) -> nn.Module:
        """From pixels (b, h, w, 3) to the scores (b,), for export."""
        return self.graph_

    def save(self, path: Path) -> None:
        """The subspaces, the backbone's weights, and `detector.json` into the folder `path`."""
        sizes = [[len(s.basis), len(s.odd)] for s in self._subspaces]
        write(
            path, "dfm", self.graph_.state_dict(), seed=self.seed, settings=self.settings, backbone=self.backbone,
            subspaces=sizes,
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> "DFM":
        """Read what `save` wrote."""
        card = read_card(path)
        settings = settings_from(DFMSettings, card["settings"])
        detector = cls(settings=settings, backbone=settings_from(BackboneSettings, card["backbone"]), seed=card["seed"])
        extract = _extractor(settings, detector.backbone, fetch=False)
        subspaces = [
            Subspace(d, k, a, settings.anomaly_weight)
            for d, (k, a) in zip(extract.lengths, card["subspaces"], strict=True)
        ]
        graph = DFMGraph(extract, subspaces, settings)
        load_into(graph, read_tensors(path), path)
        detector.graph_ = graph.to(device_here(settings.device)).to(memory_format=torch.channels_last).eval()
        return detector

    @property
    def _subspaces(self) -> list[Subspace]:
        return [s for s in self.graph_.subspaces if isinstance(s, Subspace)]

    @property
    def _device(self) -> torch.device:
        return next(self.graph_.parameters()).device


def _extractor(settings: DFMSettings, backbone: BackboneSettings, *, seed: int = 0, fetch: bool = True) -> PooledMaps:
    network = load_backbone(backbone, strides=(settings.stride,), seed=seed, fetch=fetch).requires_grad_(False)
    prepare = Preprocess(settings.size, crop=settings.crop, mean=network.mean, std=network.std)
    return PooledMaps(prepare, network, settings.poolings).eval()


def _cover(masks: Masks, extract: PooledMaps, least: float) -> list[Tensor]:
    """(m, d) of each pooling: 1 for the numbers of places that a mask covers by `least` or more, else 0."""
    found = []
    for c, h, w in extract.shapes:
        share = torch.cat([covered(part, extract.prepare, (h, w)) for part in torch.from_numpy(masks).split(64)])
        hit = ((share >= least) & (share > 0)).float()
        found.append(hit[:, None].expand(-1, c, -1, -1).flatten(1))
    return found
