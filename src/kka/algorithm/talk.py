"""What chat models say around a caption, or in its place: greetings, announcements, comments, refusals; by language.

A line that announces ("Here is a caption: …") gives what stands after the colon. A line that comments or refuses gives
nothing, unless an announcement follows in it. A line that does none of these stays as it is, to the letter. A caption
may open like an announcement ("Here is a piece of farmland"): with neither a colon nor a word for what a caption is, it
is a caption.
"""

import re
from typing import NamedTuple

MARK = re.compile(
    r"^\s*(?:>\s*)?(?:"
    # bullets, numbers, letters
    r"[-*•●◦▪■□►▸✓–—·+]\s+|\(?\d{1,3}\s*[.):\]、．](?!\d)\s*|[（(]?[a-h一二三四五六七八九十①-⑳][)）、．]\s*|[①-⑳]\s*"
    r"|第\s*[\d一二三四五六七八九十]{1,3}\s*[个個句条條]?\s*[:：、.]\s*"
    # the name of what follows, with a number or a colon
    r"|(?:\*\*|__)?(?:caption|description|sentence|example|answer|variant|légende|phrase|exemple|beschreibung"
    r"|bildunterschrift|satz|beispiel|descripci[oó]n|leyenda|frase|ejemplo|descrizione|didascalia|descrição|legenda"
    r"|描述|标题|標題|说明|說明|句子|例句|例|キャプション|説明|설명|캡션|예시)"
    r"(?:\s*\d{1,3}\s*[:：.)]|\s*[:：])(?:\*\*|__)?\s*)",
    re.IGNORECASE,
)
"""What numbers, bullets or names an item of a list."""


def _one_of(*phrases: str) -> str:
    return "(?:" + "|".join(phrases) + ")"


_GREETING = re.compile(
    _one_of(
        _one_of(
            r"sure(?: thing)?|certainly|of course|absolutely|okay|ok|great|gladly|no problem|my pleasure|happy to help",
            r"bien sûr|d'accord|certainement|avec plaisir|volontiers",
            r"gerne|natürlich|klar|selbstverständlich|aber gerne",
            r"claro(?: que sí)?|por supuesto|desde luego|con gusto",
            r"certo|certamente|com certeza|claro que sim",
        )
        + r"(?:\s*[.:!,]\s*|\s*$)",
        r"¡(?:claro(?: que sí)?|por supuesto|desde luego|con gusto)!\s*",
        _one_of(
            r"好的|当然(?:可以)?|當然(?:可以)?|没问题|沒問題|可以",
            r"はい|もちろん(?:です)?|承知(?:いたし)?しました|かしこまりました|네|물론(?:이죠|입니다)?|알겠습니다",
        )
        + r"(?:[,，。！!、.:：]\s*|\s*$)",
    ),
    re.IGNORECASE,
)

_BUT = _one_of(
    r"however|but|instead|so|anyway|now|well|alright|and",
    r"cependant|mais|jedoch|aber|sin embargo|pero|不过|但是|但",
)
_HEADS = _one_of(
    r"here (?:is|are)|here's|here you go|below (?:is|are)|the following|as requested",
    r"voici|voilà|ci-dessous|ci-après",
    r"hier (?:ist|sind|kommt|kommen|wäre|folgt|eine?)\b|nachfolgend|im folgenden|folgende",
    r"aqu[ií] (?:tienes?|est[áa]n?|va|hay|te|le)\b|a continuaci[óo]n",
    r"ecco|di seguito|aqui (?:está|estão|vai)|segue\b|a seguir",
    r"以下|下面|这(?:里)?是|這(?:裡)?是|如下|こちら|次の|다음은|여기|아래|вот\b|ниже\b",
)
_NOUN = _one_of(
    r"captions?\b|descriptions?\b|sentences?\b|légendes?\b|phrases?\b",
    r"beschreibung|bildunterschrift|s[aä]tze?\b|descripci[oó]n|leyendas?\b|frases?\b",
    r"didascali[ae]\b|descrizion[ei]\b|legendas?\b|descriç",
    r"描述|标题|標題|说明|說明|句子|文案|説明|キャプション|설명|캡션|문장",
)
"""What a caption is called."""
_A = r"(?:(?:a|an|one|another|my|the|some|possible|une?|la|ma|eine?|die|meine|una|mi|一个|一個|一种)\s*){0,2}"
_GOOD = (
    r"(?:(?:possible|suitable|new|suggested|short|similar|mögliche|passende|neue|posible|nueva|nouvelle|可能的|新的)\s*){0,2}"
)
_IN = _one_of(
    r"in the|in a|following|based on|matching|using|dans le|en suivant|im|in|basierend auf|en el|siguiendo",
    r"根据|根據|按照|仿照",
)
_STYLE = r"\b(?:style|structure|format|example|exemple|beispiel|stil|estilo|ejemplo)\b|风格|示例"
_ON = r"[^:：.!?。！？]"
"""Within a sentence, up to a colon."""
_ANNOUNCED = re.compile(
    rf"(?:{_BUT}[,，]?\s*)?"
    + _one_of(
        rf"{_HEADS}[^:：]{{0,160}}[:：]\s*",  # "Here is a caption:"
        rf"{_A}{_GOOD}{_NOUN}{_ON}{{0,80}}[:：]\s*",  # "A possible caption could be:"
        rf"{_IN}{_ON}{{0,120}}(?:{_NOUN}|{_STYLE}){_ON}{{0,60}}[:：]\s*",  # "In the style of this description:"
        rf"{_HEADS}{_ON}{{0,120}}{_NOUN}{_ON}{{0,120}}(?:[.!?]+(?:\s+|$)|[。！？]\s*|$)",  # "Here is a caption."
    ),
    re.IGNORECASE,
)

_REFUSED = re.compile(
    _one_of(
        # English
        r"unfortunately|regrettably|sorry\s*(?:[,.!—]|-\s)|sorry but|i'?m (?:so |very |really |truly )?sorry",
        r"i am (?:so |very |really |truly )?sorry|(?:my |i offer my )?(?:sincere )?apologies|i (?:do )?apologi[sz]e",
        r"i (?:can(?:no|')t|can not|could not|couldn'?t|won'?t|will not|must (?:respectfully )?(?:decline"
        r"|refuse)|have to (?:decline|refuse)|(?:respectfully )?(?:decline|refuse)|am (?:not able|unable"
        r"|not comfortable)|do not feel|don'?t feel)\b|i'?m (?:not able|unable|not comfortable)"
        r"|unable to (?:help|assist|comply|provide|generate|create|write|fulfil\w*)",
        r"as an? (?:ai\b|artificial intelligence|large language|language model)",
        r"this (?:request|content) (?:violates|goes against|is against)",
        # French
        r"(?:malheureusement|hélas),?\s+(?:je|il)|désolée?\b",
        r"(?:je suis|nous sommes) (?:vraiment |sincèrement )?(?:désolée?s?|navrée?s?)",
        r"je (?:ne |n')(?:peux|puis|suis|saurais|ai)\b|je (?:regrette|m'excuse|dois (?:décliner|refuser)|refuse)",
        r"il m'est impossible|en tant qu'(?:ia|intelligence|assistant|modèle)|en tant que modèle",
        # German
        r"(?:es )?tut mir (?:sehr |wirklich )?leid|entschuldigung|verzeihung|leider (?:kann|darf|ist|bin|muss|habe)",
        r"ich (?:kann|darf|werde|möchte) (?:das|dies\w*|dir|ihnen|leider|hier\w*|bei|kein\w*|nicht|solche\w*)\b",
        r"ich (?:muss|möchte) (?:das |dies |leider )?(?:ablehnen|verweigern)",
        r"ich (?:bin|sehe mich) (?:leider )?nicht|ich lehne|als (?:ki|sprachmodell|künstliche)",
        # Spanish
        r"(?:lo siento|lo lamento|perdón|perdona|disculpa|disculpe|lamentablemente|desafortunadamente)\b",
        r"lamento (?:no|que|decir)|no (?:puedo|me es posible|es posible|estoy en)|me temo que",
        r"debo (?:declinar|rechazar|negarme)|me niego",
        r"como (?:(?:una? )?(?:ia|inteligencia|modelo|assistente|asistente)\b)",
        # Italian, Portuguese
        r"mi dispiace|purtroppo|non (?:posso|sono in grado)|desculpe|sinto muito|infelizmente|não (?:posso|consigo)",
        # Chinese
        r"(?:非常|很|真的|十分)?(?:抱歉|对不起|對不起|遗憾|遺憾)",
        r"我(?:无法|無法|不能|不会|不會|没有办法|沒有辦法|拒绝|拒絕|必须拒绝|必須拒絕)",
        r"(?:无法|無法)(?:提供|生成|完成|满足|协助|帮助|回答|為您|为您|处理)",
        r"(?:作为|作為)(?:一个|一個|一名)?(?:AI|人工智能|语言模型|語言模型|助手)",
        # Japanese, Korean, Russian
        r"(?:大変)?申し訳|すみません|ごめんなさい|恐れ入りますが|AIとして|죄송|미안|유감|AI로서|도와드릴 수 없",
        r"к сожалению|извините|простите",
    ),
    re.IGNORECASE,
)

_COMMENT = re.compile(
    r"[(\[*_]*" + _one_of(
        # English
        r"let me know|let's\b|let me\b|feel free|i hope|hope (?:this|that|it)|note(?: that\b|\s*[,:：])",
        r"please (?:note|provide|let|share|specify|give|tell)|would you like|could you|can you|do you (?:want|need)",
        r"if you (?:need|want|would|have|like)|is there anything|what else|thank(?:s(?! to)| you)\b|you'?re welcome",
        r"happy to\b|glad to\b|these (?:captions|descriptions|sentences)|this (?:caption|description|sentence)",
        r"each (?:caption|description|sentence)",
        r"the (?:caption|description|sentence|example)s? (?:above|below|follows?|is|are|match|matches|keeps?"
        r"|uses?|maintains?|describes?|should|must)\b|i(?:'ve|'ll|'d)\b",
        r"i (?:have|will|would|tried|wrote|kept|made|used|need|must|want|think|understand|appreciate|focused"
        r"|created|generated|chose|should)\b|i(?:'m| am) (?:happy|glad|here|ready|going)\b",
        r"i can (?:help|try|do|write|generate|create|certainly|only|provide)\b",
        r"we (?:need|should|must|have) to\b|we need an?\b|okay,? so\b",
        r"the (?:user|prompt|request|instruction|task) (?:is|was|wants|asks|asked|says|said|requires|needs|gave)\b",
        r"as requested|as an example",
        r"to (?:create|write|generate|describe|imagine|answer|come up)\b.{0,60}\b(?:caption|description|sentence)",
        r"in (?:the|a|that|this) (?:exact |same |similar )?(?:style|structure|spirit|format|tone) (?:of|as)"
        r" (?:the|this|that|your)\b[^,]{0,40}\b(?:captions?|descriptions?|examples?|sentences?|ones?)\b",
        r"(?:based on|following|according to|given) (?:the|this|your|that)\b.{0,40}\b(?:example|description"
        r"|caption|prompt|style|structure|format|sentence)",
        r"(?:explanation|reason|reasoning|notes?|analysis|thought|word count|translation|style|disclaimer)\s*[:：]",
        # French
        r"j'espère|n'hésitez|faites-moi|dites-moi|si vous|souhaitez-vous|cette (?:légende|description|phrase)",
        r"ces (?:légendes|descriptions|phrases)|dans le (?:même )?style|en suivant|sur la base",
        r"selon (?:la|le|votre)|j'ai (?:écrit|créé|gardé|suivi|utilisé|essayé)|je (?:vais|peux)\b",
        # German
        r"ich hoffe|lass(?:en sie)? (?:es )?mich|gib mir|sag mir|wenn (?:du|sie)\b|falls (?:du|sie)\b",
        r"möchte(?:st du|n sie)|diese[r]? (?:beschreibung|bildunterschrift|satz)|im (?:gleichen |selben )?stil",
        r"basierend auf|ich habe\b|ich (?:werde|kann)\b|der (?:nutzer|benutzer)\b",
        # Spanish
        r"espero que|si (?:necesitas?|quieres?|desea)|d[ií]game|av[ií]same|h[aá]zmelo|¿(?:quieres|necesitas|te)",
        r"est[ae] (?:descripci[oó]n|leyenda|frase)|en el (?:mismo )?estilo|siguiendo el|bas[aá]ndo",
        r"he (?:escrito|creado|seguido|usado)",
        # Chinese
        r"希望(?:这|這|对|您|你)|如果(?:你|您|需要|有)|如需|请(?:告诉|提供|问|您|你|注意|随时)",
        r"請(?:告訴|提供|問|您|你|注意|隨時)",
        r"(?:这|這|该|該)(?:个|個|些|段|句)?(?:描述|标题|標題|说明|說明|句子)",
        r"(?:根据|根據|按照|依照|基于|基於|仿照)(?:您|你|这|這|上|给|給|该|示|提|要|描)|用户|使用者",
        r"注意?[:：]|注[:：]|(?:以|用)(?:这|這|此|该|該)(?:种|種|个|個|段)?(?:描述|说明|風格|风格)的?(?:风格|風格|方式)?",
        r"我(?:会|會|将|將|可以|来|來|为您|為您|写|寫)",
        # Japanese, Korean, Russian
        r"この(?:説明|文|キャプション|描写)|ご(?:希望|要望|不明)|何か(?:他|ご)|お役に立|이 (?:설명|문장|캡션)",
        r"도움이 되|더 필요|надеюсь",
    ),
    re.IGNORECASE,
)

UNUSABLE = re.compile(
    _one_of(
        r"\b(?:i'?m|i am) (?:sorry|unable)\b|\bi can(?:no|')t\b|\bas an ai\b|\blanguage model\b",
        r"\bi (?:must|have to) decline\b|\bje suis désolée?\b|\bje ne peux pas\b|\btut mir leid\b",
        r"\bich kann (?:das |dies |leider )?nicht\b|\blo siento\b|\bno puedo\b",
        r"抱歉|对不起|對不起|(?:作为|作為)(?:一个|一個)?(?:AI|人工智能|语言模型|語言模型)|申し訳|죄송",
    ),
    re.IGNORECASE,
)
"""Words that no caption has, wherever they stand in it."""

_SENTENCE = re.compile(r".*?(?:[.!?…]+[\"'”’»)\]*_]*(?=\s|$)|[。！？][」』”’]?|$)\s*", re.DOTALL)


_QUOTED = re.compile(r"[\"“«„「]([^\"“”«»„「」]{6,})[\"”»“」](?=[\s.!,]|$)")


class Told(NamedTuple):
    """What is left of a line."""

    text: str
    """The caption; empty where the line is mere talk."""
    refused: bool
    """It refuses: what follows it is no caption either, unless announced."""
    announced: bool
    """Something in it says that what follows is a caption."""


def without_talk(line: str) -> Told:
    """`line` without "Sure! Here are five captions:" before, and "Let me know!" after, its caption."""
    text = line.strip()
    talked = refused = announced = False
    while text:
        opening = text.lstrip("*_ ")
        if match := _GREETING.match(opening):
            text = opening[match.end() :].lstrip()
        elif match := _ANNOUNCED.match(opening):
            text, announced, talked, refused = opening[match.end() :].strip(), True, False, False
        else:
            end = _first_sentence(text)
            refuses = bool(_REFUSED.match(opening))
            if not (talked or refuses or _COMMENT.match(opening)):
                break
            # Of a line that comments, only what it announces further on is a caption.
            talked, refused, announced = True, refused or refuses, False
            text = text[end:].lstrip()
    if text.rstrip("*_ ").endswith((":", "：")):
        text = ""
    elif announced and (quoted := _QUOTED.match(text)):
        text = quoted[1]
    return Told(_without_closing_talk(text) if text else "", refused, announced)


def _first_sentence(text: str) -> int:
    match = _SENTENCE.match(text)
    return match.end() if match and match.end() else len(text)


def _without_closing_talk(text: str) -> str:
    """`text` up to the first sentence, after its first one, that comments or refuses."""
    position = _first_sentence(text)
    while position < len(text):
        rest = text[position:]
        if _COMMENT.match(rest) or _REFUSED.match(rest):
            return text[:position].rstrip()
        position += _first_sentence(rest)
    return text
