"""How words in replies are compared with words in texts, and what refusals look like."""

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

_ALIKE = str.maketrans("’‘‛`´“”„‟«»‐‑‒–—−", '\'\'\'\'\'""""""------')  # forms of one sign, which NFKC keeps apart
_TAG = re.compile(r"</?[a-z]{1,10}\s?/?>")
_MARKUP = frozenset("*_~#<>|=^`")


@lru_cache(maxsize=100_000)
def normalise(text: str) -> str:
    """Give a word or phrase as it is compared: NFKC, no case, no punctuation or markup around it, single spaces.

    Where nothing else is left, punctuation stays: a word that is a comma equals a comma.
    """
    folded = _folded(text)
    inner = _TAG.sub("", folded)
    start, end = 0, len(inner)
    while start < end and _outer(inner[start]):
        start += 1
    while end > start and _outer(inner[end - 1]):
        end -= 1
    return " ".join(inner[start:end].split()) or " ".join(folded.split()) or text


@lru_cache(maxsize=100_000)
def letters(text: str) -> str:
    """Give what is left of a text without case, spaces, punctuation and markup; may be nothing."""
    return "".join(c for c in _TAG.sub("", _folded(text)) if not (c.isspace() or _outer(c)))


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.translate(_ALIKE)).casefold()
    return "".join(c for c in unicodedata.normalize("NFKC", folded) if unicodedata.category(c) != "Cf")


def _outer(character: str) -> bool:
    return character in _MARKUP or character.isspace() or unicodedata.category(character)[0] == "P"


def nearly(a: str, b: str) -> bool:
    """Whether one letter put in, left out or changed makes `b` of `a` (or they are equal)."""
    if len(a) > len(b):
        a, b = b, a
    if len(b) - len(a) > 1:
        return False
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    return a[same + (len(a) == len(b)) :] == b[same + 1 :]


def field_of(line: str, fields: Mapping[str, str]) -> tuple[str | None, str]:
    """Give the field a line is said of, as in `Premise: dog, park`, and the rest; (None, line) where none is.

    Args:
        line: the line.
        fields: normalised name -> name.
    """
    head, colon, rest = line.replace("：", ":").partition(":")
    name = fields.get(normalise(head)) if head.strip() else None
    return (name, rest.strip(" *_") if colon else "") if name else (None, line)


# Said at the beginning of a reply in which no list is found. Curly apostrophes are as good as straight ones.
REFUSAL = re.compile(
    "|".join(
        (
            r"\bI (?:can(?:['’]t|not| not)|could(?:n['’]t| not)|won['’]t|will not|do(?:n['’]t| not) feel)",
            r"\bI(?:['’]m| am) (?:not able|unable|not allowed|not comfortable)",
            r"\bI (?:must|have to|need to|would like to) (?:decline|refuse)",
            r"\bas an? (?:AI|artificial|language model|large language)",
            r"\b(?:against|violates?) (?:my|the|our) (?:guidelines|polic)",
            r"\bich kann\b.{0,60}\b(?:nicht|keine)|\bals (?:KI|Sprachmodell)\b|\bich bin nicht in der Lage",
            r"\bje ne (?:peux|suis) pas|\ben tant qu['’](?:IA|intelligence|assistant)",
            r"\bno puedo\b|\bcomo (?:IA|modelo de lenguaje)|\bnão posso\b|\bnon posso\b|\bik kan\b.{0,40}\bniet\b",
            r"\bя не могу|\bкак (?:ИИ|языковая модель)",
            r"我(?:无法|無法|不能|没法)|(?:无法|不能)(?:提供|回答|完成)",
            r"(?:作为|身為|作為)(?:一个|一個)?(?:AI|人工智能|语言模型)",
            r"申し訳|できません|お答え|AIとして|죄송|할 수 없|도와드릴 수",
            r"لا (?:أستطيع|يمكنني)|كنموذج|أعتذر|मैं .{0,40}नहीं कर|xin lỗi, tôi",
        )
    ),
    re.IGNORECASE,
)
