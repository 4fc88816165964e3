"""What the name of a folder says of the pictures in it: normal, anomalous, masks, training, test.

In any case, with any separators, with numbers and words such as "images" beside: "01-Good_images", "not OK",
"GroundTruth". Names that say nothing have no role: nothing is guessed from them.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

Split = Literal["train", "test", "val"]
Label = Literal["normal", "anomalous", "mask"]

GOOD = "good"
"""The class of normal photos, as in MVTec AD; also of those that are in no class folder."""

_NORMAL = """
good ok okay normal normals nominal pass passed accept accepted healthy intact flawless undamaged io gut inordnung
fehlerfrei gesund bueno buenos buena buenas correcto correctos sano bon bons bonne bonnes conforme conformes normale
normales normaux sain buono buoni buona buone normali bom bons normais goed normaal goede dobry dobre iyi
nodefect nodefects defectfree nondefective nondefect withoutdefect nonanomalous noanomaly faultless
正常 正常品 良品 合格 合格品 良好 良 正常图 無欠陥 无缺陷 정상 양품 합격 норма нормальные годные хорошие годен
"""
_ANOMALOUS = """
defect defects defective defectives bad ng ko nok notok notgood nogood abnormal abnormals abnormality anomaly anomalies
anomalous anomalie anomalien fail fails failed failure faulty fault faults reject rejects rejected unhealthy
notnormal nonconforming defekt defekte fehler fehlerhaft schlecht ausschuss nio niO nichtinordnung anormal anormale
anormales anormaux anormali defectueux defectueuse defaut defauts mauvais mauvaise nonconforme defecto defectos
defectuoso defectuosos malo malos mala malas anomalia anomalias anomalo anomali difetto difetti difettoso difettosi
scarto scarti defeito defeitos defeituoso ruim fout afgekeurd hatali hata
不良 不良品 异常 異常 异常品 異常品 缺陷 次品 瑕疵 欠陥 欠陥品 不合格 不合格品 불량 불량품 비정상 이상 결함 брак
дефект дефекты аномалия аномалии
"""
_DEFECTS = """
scratch scratches scratched crack cracks cracked dent dents dented broken damage damaged contamination contaminated
corrosion rust stain stains burr burrs kratzer riss risse delle beschadigt kaputt rayure rayures fissure fissures
aranazo grieta graffio crepa 划痕 裂纹 傷 キズ ひび 스크래치
"""
_MASK = """
mask masks maske masken masque masques mascara mascaras maschera maschere groundtruth groundtruths gt gts labelmap
labelmaps annotation annotations segmentation segmentations segmask segmasks segmentationmask segmentationmasks
掩码 掩膜 蒙版 マスク 마스크
"""
_TRAIN = """
train training trainset trainingset trainings entrenamiento entrainement apprentissage addestramento treino treinamento
训练 训练集 訓練 学習 학습 훈련 обучение
"""
_TEST = "test tests testing testset testingset teste testes prueba pruebas 测试 测试集 測試 テスト 테스트 тест"
_VAL = """
val valid validation validationset valset validierung validacion validazione validacao 验证 验证集 驗證 検証 검증
"""
_SAYS_NOTHING = """
images image imgs img pictures picture pics pic photos photo samples sample data dataset datasets files jpg jpeg png bmp
tif rgb bilder bild fotos foto imagenes imagen immagini imagens 图片 图像 画像 写真 사진
"""


def _folded(text: str) -> str:
    """Small letters without accents, so that "Défaut" is "defaut"."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in plain if unicodedata.category(c) != "Mn")


def _words(text: str) -> frozenset[str]:
    return frozenset(_folded(text).split())


NORMAL, ANOMALOUS, DEFECTS, MASK = _words(_NORMAL), _words(_ANOMALOUS), _words(_DEFECTS), _words(_MASK)
SPLITS: dict[Split, frozenset[str]] = {"train": _words(_TRAIN), "test": _words(_TEST), "val": _words(_VAL)}
SAYS_NOTHING = _words(_SAYS_NOTHING)


@dataclass(frozen=True, kw_only=True)
class Role:
    """What a folder's name says; nothing where all is None."""

    split: Split | None = None
    label: Label | None = None
    defect: bool = False
    """Whether the name is that of a kind of defect, such as "scratch", and not of anomalies as a whole."""
    container: bool = False
    """Whether it only says that there are pictures: "images"."""

    @property
    def known(self) -> bool:
        """Whether the name says anything."""
        return self != Role()


@lru_cache(maxsize=100_000)
def role_of(name: str) -> Role:
    """What the name of a folder says of the pictures in it."""
    tokens = [token for token in re.split(r"[\W_]+", _folded(name)) if token]
    whole = _role("".join(tokens))
    if whole.known:
        return whole
    rest = [re.sub(r"(?<=\D)\d+$", "", token) for token in tokens if not token.isdigit()]
    telling = [token for token in rest if token not in SAYS_NOTHING]
    if rest and not telling:
        return Role(container=True)
    return _composed(telling)


def _composed(tokens: Sequence[str]) -> Role:
    """The role of "test_good", "good test" or "defect masks": each word must be known."""
    whole = _role("".join(tokens))
    if whole.known or len(tokens) < 2:
        return whole
    for one, others in ((tokens[0], tokens[1:]), (tokens[-1], tokens[:-1])):
        part, rest = _role(one), _composed(others)
        if not rest.known:
            continue
        if part.split and not rest.split:
            return Role(split=part.split, label=rest.label, defect=rest.defect)
        if part.label == "mask" and rest.label != "mask":
            return Role(split=rest.split, label="mask")
    return Role()


def _role(word: str) -> Role:
    for split, words in SPLITS.items():
        if word in words:
            return Role(split=split)
    if word in MASK:
        return Role(label="mask")
    if word in NORMAL:
        return Role(label="normal")
    if word in ANOMALOUS or word in DEFECTS:
        return Role(label="anomalous", defect=word in DEFECTS)
    return Role()


_DATE = re.compile(r"(19|20)\d\d([-_. ]?\d\d){0,5}")
_NUMBERED = re.compile(r"(\D*?)[-_. ]*\d+")
_CLASS_STEMS = _words("class classes klasse clase classe type typ kind label category cat defect id c")


def only_group(names: Sequence[str]) -> bool:
    """Whether folders of these names only group pictures: all are dates, or one word with numbers, as of cameras.

    Bare numbers do not: "0" and "1" may as well be classes.
    """
    if all(_DATE.fullmatch(name) for name in names):
        return True
    found = [_NUMBERED.fullmatch(_folded(name)) for name in names]
    stems = {match[1].strip() if match else "" for match in found}
    return len(stems) == 1 and not stems & {"", *_CLASS_STEMS}
