"""From a judge's reply to the letter that it chooses, by rules alone; what can't be read is never guessed."""

import json
import re
from typing import Any, cast

from raison.prompting.parse import read_spoken
from raison.prompting.wording import REFUSAL

EMPTY, CUT, REFUSED, SEVERAL, UNREAD = "empty reply", "cut off", "refusal", "several named", "nobody named"

_KEYS = ("answer", "choice", "letter", "person", "writer", "author", "annotator", "verdict", "prediction", "name")
# possessive (`*+`): what stands around a letter is taken as a whole, so that no reply takes more than linear time
_OPEN, _CLOSE = r"(?:[\s*_`\"'“”‘’(\[<$~#>:=-]|\\\w+\{|\{)*+", r"[\s*_`\"'“”‘’)\]}>$~.!,;:]*+"
_TITLE = r"(?:(?:person|writer|author|annotator|option|choice|answer|candidate|letter)\s+)?"
_MARKED = re.compile(
    r"(?:\b(?:answer|choice|verdict|prediction|conclusion|decision|antwort|réponse|respuesta)\b"
    r"(?:\s+(?:is|would\s+be|ist|est|es)\b)?|(?=\\boxed\b))",
    re.IGNORECASE,
)
_NEGATED = re.compile(r"\b(?:not|no|never|nor|neither|than|unlike|(?:is|was)n['’]t)\b[\s\w]{0,12}\W*$", re.IGNORECASE)
_LETTER = re.compile(r"(?<![\w'’])([A-Z])(?![\w'’])")
_TITLED = re.compile(
    r"\b(?:person|writer|author|annotator|option|candidate|letter|by|choose|pick|say)\W*$", re.IGNORECASE
)
# behind a name, and not behind an article
_VERB = r"[ \t]+(?:and|or|but|is|was|are|has|does|also|as|because|since|\w+(?:s|ed))\b"


def read_choice(text: str | None, letters: str, cut: bool = False) -> tuple[str | None, str | None]:
    r"""Give the letter that a reply chooses, or why none can be read: (letter, None) or (None, failure).

    Read in this order: the reply is a letter (in any brackets or marks, as `Person B`, as JSON); what stands behind the
    last `answer:` or `\boxed` begins with one; its first or its last line is one; it names one alone. Thoughts (up to
    `</think>`) are not read. Letters are capitals, unless one is all there is. A letter behind `not` or `than` is not
    named. `A` before a common word may be an article: then it names nobody, and casts doubt on every other letter but
    that with which the reply begins (`B. A person ...`). Never raises.

    Args:
        text: the reply; None is an empty one.
        letters: those that can be chosen.
        cut: the reply was ended by its length, so that its last word may not be its answer.
    """
    answer = read_spoken(text or "").strip()
    if not answer:
        return None, CUT if cut and (text or "").strip() else EMPTY
    found = _alone(answer, letters) or _json(answer, letters) or _behind_mark(answer, letters)
    if found is not None:
        return found, None
    lines = [line for line in answer.splitlines() if line.strip()]
    ends = {one for one in (_alone(lines[0], letters), _alone(lines[-1], letters)) if one}
    named = ends or _named(answer, letters)
    if not ends and REFUSAL.search(answer[:300]):
        return None, REFUSED
    if len(named) == 1 and (ends or not cut):
        return named.pop(), None
    return None, CUT if cut else SEVERAL if named else UNREAD


def _alone(part: str, letters: str) -> str | None:
    """Read a part that is nothing but a letter."""
    match = re.fullmatch(rf"{_OPEN}(?i:{_TITLE}){_OPEN}([A-Za-z]){_CLOSE}", part)
    found = match[1].upper() if match else ""
    return found if found and found in letters else None


def _behind_mark(text: str, letters: str) -> str | None:
    """Read the letter that stands behind the last `answer:`; several in a row (`A or B`) are none."""
    marks = [*_MARKED.finditer(text)]
    rest = text[marks[-1].end() :] if marks else ""
    match = re.match(rf"{_OPEN}(?i:{_TITLE}){_OPEN}([A-Z])(?![\w'’])", rest)
    if not match or match[1] not in letters or _is_article(match[1], rest[match.end() :]):
        return None
    more = re.match(rf"{_CLOSE}(?:or|and|/|&|\|)?{_OPEN}[A-Z](?![\w'’])", rest[match.end() :])
    return None if more else match[1]


def _json(text: str, letters: str) -> str | None:
    """Read the first JSON object in a reply that has a key for its answer."""
    for match in re.finditer(r"\{[^{}]*\}", text):
        try:
            value: Any = json.loads(match[0])
        except (ValueError, RecursionError):
            continue
        fields = {str(key).casefold(): said for key, said in cast("dict[Any, Any]", value).items()}
        said = next((fields[key] for key in _KEYS if key in fields), None)
        if isinstance(said, str):
            return _alone(said, letters)
    return None


def _named(text: str, letters: str) -> set[str]:
    """Give the letters that a text names as people, with an `A` that may be an article where there is such doubt."""
    sure: set[str] = set()
    unsure: set[str] = set()
    for match in _LETTER.finditer(text):
        letter, before, rest = match[1], text[max(0, match.start() - 40) : match.start()], text[match.end() :]
        if letter in letters and not _NEGATED.search(before):
            doubtful = _is_article(letter, rest) and not _TITLED.search(before)
            (unsure if doubtful else sure).add(letter)
    begun = re.match(rf"{_OPEN}(?i:{_TITLE}){_OPEN}([A-Z])[*_`)\]]*\s*[.:;,)\n–—-]", text)
    if begun and sure == {begun[1]}:
        return sure
    return sure | unsure if sure else set()


def _is_article(letter: str, rest: str) -> bool:
    """Whether a letter that is a word of English stands before a common word that is no verb of its own."""
    return letter in "AI" and re.match(r"[ \t]+[a-z]", rest) is not None and not re.match(_VERB, rest)
