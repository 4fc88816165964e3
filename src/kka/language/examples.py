"""The examples that a small language model learns from: a tokenizer of the captions, and pairs of like ones."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kka.algorithm.answers import normalise
from kka.seeding import derive_seed

PAD, PROMPT, ANSWER, END = "<|pad|>", "<|prompt|>", "<|answer|>", "<|end|>"
CHAT_TEMPLATE = (
    "{%- for message in messages %}{%- if message['role'] == 'assistant' %}{{- message['content'] + '<|end|>' }}"
    "{%- else %}{{- '<|prompt|>' + message['content'] + '<|answer|>' }}{%- endif %}{%- endfor %}"
)
SAME_OPENING = 0.5
"""Share of the examples whose answer opens with the same two words as the prompt's caption: the style to keep."""
CANDIDATES = 64
"""An answer's prompt is the likest of so many random captions. The best of m is log m - (m - 1) / m nats from a random
one (3.2 for 64), which is the most that an answer can tell of its prompt, and what keeps the answers apart."""
LEAST_APART = 16
"""Of a small corpus every so many captions give one candidate: the likest of all would be the same one each time."""
SAME = 0.999
"""Cosine from which two captions hold the same words: a prompt that is to be copied teaches no other kind."""
SPELLED = 0.15
"""Share of the examples whose prompt is spelled in smaller tokens than usual."""


def train_tokenizer(
    captions: Sequence[str], prompt_of: Callable[[str], str], vocabulary: int
) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the captions: any text can be encoded. The constant parts of the prompt are a token each."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, PROMPT, ANSWER, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(set(captions)), trainer)
    mark = "\x1a"  # stands for the caption: no white space, and in no prompt
    constant = [part for part in prompt_of(mark).split(mark) if part.strip()]
    tokenizer.add_special_tokens([AddedToken(part, normalized=False) for part in constant])  # no part of an answer
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[PROMPT, ANSWER],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def spelled(ids: list[int], tokenizer: Any, seed: int) -> list[int]:
    """The same prompt with some words cut into smaller tokens, as BPE-dropout does it (Provilkov et al. 2020).

    A prompt names a normal, whose words no caption of the corpus may hold: the tokens that spell them out must have
    been met in training, or the answer derails.
    """
    rng, model = np.random.default_rng(seed), tokenizer.backend_tokenizer.model
    fixed = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    found: list[int] = []
    for token_id, cut in zip(ids, rng.random(len(ids)), strict=True):
        token = tokenizer.convert_ids_to_tokens(token_id)
        if token_id in fixed or len(token) < 2 or cut > 0.5:
            found.append(token_id)
            continue
        place = int(rng.integers(1, len(token)))
        found += [piece.id for half in (token[:place], token[place:]) for piece in model.tokenize(half)]
    return found


def words_and_pairs(caption: str) -> list[str]:
    """The words of a caption and its pairs of neighbours, which tell a yellow center from yellow petals."""
    words = normalise(caption).split()
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def tfidf(captions: Sequence[str]) -> csr_matrix:
    """Unit rows, of which the dot product is a likeness from 0 to 1: words shared, rare ones above common ones."""
    words = HashingVectorizer(n_features=2**16, analyzer=words_and_pairs, norm=None, alternate_sign=False)
    counts = words.transform(captions)
    return csr_matrix(TfidfTransformer(sublinear_tf=True).fit_transform(counts))


class Pairs:
    """The captions as tokens, and pairs of them that are of different kinds and share words, as an answer of a chat
    model shares attributes with the caption that it was shown."""

    def __init__(
        self, captions: list[str], kinds: list[str], prompt_of: Callable[[str], str], tokenizer: Any, seed: int
    ) -> None:
        rendered = [
            tokenizer.apply_chat_template([{"role": "user", "content": prompt_of(c)}], tokenize=False) for c in captions
        ]
        self.prompts: list[list[int]] = tokenizer(rendered, add_special_tokens=False)["input_ids"]
        spelling = derive_seed(seed, "spelling")
        self.spelled = [spelled(ids, tokenizer, derive_seed(spelling, i)) for i, ids in enumerate(self.prompts)]
        bare = tokenizer(captions, add_special_tokens=False)["input_ids"]
        self.answers: list[list[int]] = [[*ids, tokenizer.eos_token_id] for ids in bare]
        self.pad: int = tokenizer.pad_token_id
        self.longest = max(map(len, [*self.prompts, *self.spelled])) + max(map(len, self.answers))
        self.kind = np.unique(kinds, return_inverse=True)[1]
        self._tfidf = tfidf(captions)
        opening = np.unique([" ".join(c.lower().split()[:2]) for c in captions], return_inverse=True)[1]
        # Held out by text: a fiftieth of the different captions, at most 500 of them.
        texts = sorted(set(captions))
        rng = np.random.default_rng(derive_seed(seed, "validation"))
        held = set(rng.permutation(texts)[: max(1, min(len(texts) // 50, 500))].tolist())
        out = np.array([c in held for c in captions])
        self.train, self.validation = np.flatnonzero(~out), np.flatnonzero(out)
        if len(set(self.kind[self.train])) < 2:
            self.train = np.arange(len(captions))
        self._opening = opening
        self._by_opening: dict[int, np.ndarray] = {}
        groups: dict[int, list[int]] = defaultdict(list)
        for i in self.train:
            groups[int(opening[i])].append(int(i))
        self._by_opening = {key: np.array(members) for key, members in groups.items()}

    def partner(self, i: int, rng: np.random.Generator) -> int:
        """A training caption of another kind than caption i: the likest of some, often with the same opening."""
        same = self._by_opening.get(int(self._opening[i]))
        if same is not None and rng.random() < SAME_OPENING and bool((self.kind[same] != self.kind[i]).any()):
            return self._likest(i, same, rng)
        return self._likest(i, self.train, rng)

    def _likest(self, i: int, among: np.ndarray, rng: np.random.Generator) -> int:
        """The likest to caption i of `CANDIDATES` random ones of `among`, which holds another kind than that of i."""
        count = max(1, min(CANDIDATES, len(among) // LEAST_APART))
        while True:
            drawn = among[rng.integers(len(among), size=count)]
            drawn = drawn[self.kind[drawn] != self.kind[i]]
            if len(drawn):
                likeness = (self._tfidf[drawn] @ self._tfidf[i].T).toarray()[:, 0]
                return int(drawn[np.where(likeness < SAME, likeness, -1.0).argmax()])

    def batches(self, size: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Endless batches: each caption is the answer once an epoch. Lengths are alike within a batch."""
        rng = np.random.default_rng(derive_seed(seed, "batches"))
        order: list[int] = []
        while True:
            while len(order) < 16 * size:
                order += rng.permutation(self.train).tolist()
            chunk, order = order[: 16 * size], order[16 * size :]
            partners = [self.partner(i, rng) for i in chunk]
            odd = rng.random(len(chunk)) < SPELLED
            rows = [
                ((self.spelled if spell else self.prompts)[j], self.answers[i])
                for i, j, spell in zip(chunk, partners, odd, strict=True)
            ]
            rows.sort(key=lambda row: len(row[0]) + len(row[1]))
            for k in rng.permutation(16):
                yield collate(rows[k * size : (k + 1) * size], self.pad)


def collate(rows: Sequence[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids (n, t) of (prompt, answer), padded on the right, and whether each is part of an answer."""
    width = max(len(p) + len(a) for p, a in rows)
    ids = torch.full((len(rows), width), pad)
    answer = torch.zeros((len(rows), width), dtype=torch.bool)
    for row, (p, a) in enumerate(rows):
        ids[row, : len(p) + len(a)] = torch.tensor(p + a)
        answer[row, len(p) : len(p) + len(a)] = True
    return ids, answer
