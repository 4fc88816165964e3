"""From raw answers to captions: a table of what chat models write, and what of it is kept."""

import time

import pytest

from kka.algorithm.answers import clean, length, normalise, parse_answer, whole_part
from kka.algorithm.captions import NearDuplicates

A, B = "a red flower with five petals", "a blue flower with many petals"
ZH, ZH2 = "一朵有五片花瓣的红色花", "一朵花瓣边缘枯黄的蓝色花"
JA, KO = "五枚の花びらを持つ赤い花", "꽃잎이 다섯 장인 붉은 꽃"
FR, DE = "une fleur rouge à cinq pétales", "eine rote Blume mit fünf Blütenblättern"
ES = "una flor roja con cinco pétalos"

ANSWERS: list[tuple[str, list[str]]] = [
    # one line, as small models write
    (A, [A]),
    (f"{A}.", [A]),
    ("Here is a piece of farmland .", ["Here is a piece of farmland"]),
    *((caption, [caption]) for caption in (
        "The task lamp has a broken arm", "The instruction panel has a cracked display",
        "The user interface shows a cracked glass panel", "Note paper with torn edges",
        "In the structure of the bridge a steel beam is missing", "In the style of Van Gogh, a torn sunflower",
        "Thanks to a sharp impact the glass is shattered", "We have a bolt with a broken head",
        "Sorry-looking flower with brown petals", "Unable to open, the valve is rusted shut",
        "As a large crack runs across it the tile splits",
    )),
    ("the following car is parked on a road", ["the following car is parked on a road"]),
    ("1.5 cm long scratch on a metal bracket", ["1.5 cm long scratch on a metal bracket"]),
    ("a sign that says [stop] beside a road", ["a sign that says [stop] beside a road"]),
    # JSON
    (f'{{"captions": ["{A}", "{B}"]}}', [A, B]),
    (f'[{{"caption": "{A}"}}, {{"caption": "{B}"}}]', [A, B]),
    (f'{{"caption": "{A}"}}', [A]),
    (f'{{"caption": "{A}"}}\n{{"caption": "{B}"}}', [A, B]),
    (f'{{"caption_1": "{A}", "caption_2": "{B}"}}', [A, B]),
    (f'{{"1": "{A}", "2": "{B}"}}', [A, B]),
    (f'{{"id": 3, "title": "The rose of them all", "description": "{A}"}}', [A]),
    (f'{{"reasoning": "the user wants a flower with petals", "answer": "{A}"}}', [A]),
    (f'{{"result": {{"items": [{{"text": "{A}", "score": 0.5}}]}}}}', [A]),
    (f'```json\n["{A}", "{B}"]\n```', [A, B]),
    (f'Here are two captions:\n\n```json\n{{"captions": ["{A}", "{B}"]}}\n```\nLet me know!', [A, B]),
    (f'Sure, this is what you asked for. ["{A}", "{B}"]', [A, B]),
    (f'Here is the JSON: {{"descriptions": ["{A}"]}}. I hope that it helps.', [A]),
    (f'["{A}", "{B}", "a yellow flow', [A, B]),
    (f'```json\n{{"captions": [\n  "{A}",\n  "{B}",\n  "a yell', [A, B]),
    (f'[{{"caption": "{A}"}}, {{"caption": "a yellow fl', [A]),
    (f'[{{"caption": "{A}", "hard": true}}, {{"hard": fal', [A]),
    (f'{{"captions": ["{A}", "{B}"', [A, B]),
    ('{"caption": "a red flower with fi', []),
    ('["a red flower with fi', []),
    (f"['{A}', '{B}']", [A, B]),
    (f'["{A}", "{B}",]', [A, B]),
    (f'["{ZH}"]', [ZH]),
    ("[]", []),
    ('{"error": "I was not able to write the captions"}', []),
    ('{"refusal": "this is nothing that I write about", "captions": []}', []),
    # lists and quotes
    (f"1. {A}\n2. {B}", [A, B]),
    (f"1、{ZH}\n2、{ZH2}", [ZH, ZH2]),
    (f"a) {A}\nb) {B}", [A, B]),
    (f"● {A}\n● {B}", [A, B]),
    (f"「{JA}」", [JA]),
    (f"«{FR}»", [FR]),
    (f"„{DE}“", [DE]),
    (f"Légende : {FR}", [FR]),
    (f"描述1：{ZH}\n描述2：{ZH2}", [ZH, ZH2]),
    (f"<caption>{A}</caption>", [A]),
    (f"<think>\nA flower is wanted, of some kind.\n</think>\n\n{A}", [A]),
    (f"A flower is wanted, of some kind.\n</think>\n\n{A}", [A]),
    # scripts without spaces
    (ZH, [ZH]),
    (f"{ZH}。", [ZH]),
    (f"{ZH}\n{ZH2}", [ZH, ZH2]),
    (JA, [JA]),
    (KO, [KO]),
    ("红花", []),
    ("花" * 300, []),
    # announcements
    (f"Here is a caption: {A}", [A]),
    (f"Here is a caption:\n\n{A}", [A]),
    (f"Here is a caption in the same style. {A}", [A]),
    (f'Sure! Here\'s a caption: "{A}" Let me know if you need more.', [A]),
    (f"A possible caption could be: {A}", [A]),
    (f"In the style of this description: {A}", [A]),
    (f"**Caption:** {A}", [A]),
    (f"Voici une légende : {FR}", [FR]),
    (f"Bien sûr ! Voici une description dans le même style :\n{FR}", [FR]),
    (f"Hier ist eine Beschreibung: {DE}", [DE]),
    (f"Gerne! Hier sind zwei Beschreibungen:\n1. {DE}", [DE]),
    (f"Aquí tienes una descripción: {ES}", [ES]),
    (f"¡Claro! Aquí tienes:\n- {ES}", [ES]),
    (f"以下是一个描述：{ZH}", [ZH]),
    (f"当然可以！以下是两个描述：\n1. {ZH}\n2. {ZH2}", [ZH, ZH2]),
    (f"好的，这是一个标题：\n{ZH}", [ZH]),
    (f"以下はキャプションです：{JA}", [JA]),
    (f"다음은 설명입니다: {KO}", [KO]),
    # talk about the task
    ("In the style of this description, I would write about other flowers.", []),
    ("Here is a caption in the style of your example.", []),
    ("The user wants a caption of a flower, so I need to think of one.", []),
    ("Okay, let me think about which flower would be unusual here.", []),
    (f"{A}\n\nThis caption keeps the structure of the example.", [A]),
    (f"{A}. This description follows the style of your example.", [A]),
    ("Please provide the caption that you want me to follow.", []),
    ("Dans le style de cette description, la fleur serait différente.", []),
    ("Im Stil dieser Beschreibung könnte man vieles schreiben.", []),
    ("En el estilo de esta descripción se puede escribir mucho.", []),
    (f"{ZH}。希望这个描述对您有帮助！", [ZH]),
    ("请提供您希望我参考的描述。", []),
    ("以这种描述的风格，我可以写很多不同的花。", []),
    # refusals
    ("I must decline to describe damage to such parts.", []),
    ("I'm sorry, but I can't help with that request.", []),
    ("I cannot write such captions for you.", []),
    ("Unfortunately, I am not able to write that.", []),
    ("As an AI, I have no photos of flowers at hand.", []),
    ("I must decline.\nFlowers with many petals are a fine theme, though.", []),
    (f"I'm sorry for the confusion! Here is a caption: {A}", [A]),
    (f"I can't show a photo.\nHowever, here is a caption:\n{A}", [A]),
    ("Je suis désolé, mais je ne peux pas écrire cette légende.", []),
    ("Désolée, je ne peux pas vous aider avec cette demande.", []),
    ("Es tut mir leid, aber dabei kann ich nicht helfen.", []),
    ("Leider kann ich solche Beschreibungen nicht schreiben.", []),
    ("Lo siento, pero no puedo ayudarte con eso.", []),
    ("No puedo escribir una descripción de ese tipo.", []),
    ("抱歉，我无法提供这样的描述。", []),
    ("作为一个AI语言模型，我没有办法看到图片。", []),
    ("申し訳ありませんが、その説明は書けません。", []),
    ("죄송하지만 그런 설명은 쓸 수 없습니다.", []),
]


@pytest.mark.parametrize(("answer", "kept"), ANSWERS, ids=range(len(ANSWERS)))
def test_answers_of_chat_models(answer: str, kept: list[str]) -> None:
    """What is lost is paid for in vain; what passes wrongly is drawn as an anomaly and trained with."""
    assert [caption for text in parse_answer(answer) if (caption := clean(text))] == kept


def test_the_table_is_long() -> None:
    """A table that shrinks would hold ever less."""
    assert len(ANSWERS) == len({answer for answer, _ in ANSWERS}) >= 100


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        (f"1. {A}\n2. a blu", f"1. {A}"),
        (f"{A}. It stands in a fie", f"{A}."),
        ("a red flower with fi", ""),
        ("a scratch of 1.5 cm on the", ""),
        (f"{ZH}。它的花", f"{ZH}。"),
        ("<think>the user wants\na flower", ""),
        (f'{{"captions": ["{A}", "a bl', f'{{"captions": ["{A}", "a bl'),
        ("", ""),
    ],
)
def test_what_a_limit_of_tokens_leaves(cut: str, whole: str) -> None:
    """Half a caption describes half a picture; but a one-line answer of two sentences has a whole one."""
    assert whole_part(cut) == whole


def test_lengths_count_characters_where_words_have_no_spaces() -> None:
    """By words, a Chinese caption of any length has one, and all were lost."""
    assert length(A) == 6
    assert length("一二三四五六七八") == 5
    assert length("a red 花") == 2 + 1 / 1.6


def test_near_duplicates_without_spaces() -> None:
    """As one word, two sentences that differ in a character would have nothing in common."""
    caption = "这朵花有五片圆形的红色花瓣,中间是小小的白色花蕊,背景是绿色的树叶和草地,阳光很亮"
    known = NearDuplicates([caption])
    assert known.find(caption + "。")
    assert known.find(caption.replace("小小的", "小的"))
    assert not known.find("这朵花有许多蓝色的花瓣")
    assert normalise("红花!") == "红 花"


def test_odd_characters() -> None:
    """A NUL ends a string in other programs, and what cannot be encoded cannot be stored."""
    assert clean(f"\ufeff{A}\x00\u200b") == A
    assert clean("a red \ufffd flower with petals") is None


@pytest.mark.parametrize(
    "answer",
    [
        "[" * 50_000,
        "\n[[" * 50_000,
        '{"a":' * 20_000,
        "<answer>" * 50_000,
        "Here is " * 50_000,
        "here is a caption " * 20_000,
        '["' + "\\" * 100_000,
        "<think>" * 50_000,
        "a. " * 50_000,
        "['" * 50_000,
    ],
)
def test_hostile_answers_end_soon(answer: str) -> None:
    """A model that repeats itself for its whole limit would hold the run."""
    start = time.process_time()
    for text in parse_answer(answer):
        clean(text)
    whole_part(answer)
    assert time.process_time() - start < 3
