from collections import Counter

import pytest

from raison.records import Annotation, InputError, Record
from raison.sources.rules import Rule, Rules, all_rules, apply_rules, idle_rules, read_rules
from raison.words import character_words

PAIR = {"premise": "A man sleeps.", "hypothesis": "A man, asleep, is asleep"}


def record(text="play the song", label="Play", **more):
    fields = text if isinstance(text, dict) else {"text": text}
    return Record("1", fields, label=label, **more)


def marked(rules, item, **options):
    """What the rules of one annotator mark, as texts."""
    (annotation,) = apply_rules({"a": rules}, item, **options).annotations
    return {name: [item.fields[name][slice(*span)] for span in spans] for name, spans in annotation.rationale.items()}


def test_rules_become_annotators_of_any_record():
    before = Annotation("ann", "no", {"premise": (), "hypothesis": ()})
    item = Record("1", PAIR, "nli", "no", ("yes", "no"), (before,), {"x": 1})
    rules = {"w": Rules(words={"no": ["asleep"]}), "p": Rules(patterns=[r"(?P<verb>sleep)s"])}
    after = apply_rules(rules, item)
    assert after.annotations == (
        before,
        Annotation("w", "no", {"premise": (), "hypothesis": ((7, 14), (18, 24))}, None, {"sees_label": True}),
        Annotation("p", None, {"premise": ((6, 13),), "hypothesis": ()}),
    )
    assert (after.id, after.fields, after.label, after.meta) == (item.id, item.fields, item.label, item.meta)


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        (["song"], "The SONG, a song's song.", ["SONG,", "song."]),  # not `song's`
        (["Put on"], "put on, or put it on", ["put on,"]),  # a phrase is neighbouring words
        (["a a"], "a a a", ["a a a"]),  # occurrences may overlap
        (["..."], "well ... well", ["..."]),
        (["", " "], "well", []),
        (["straße"], "STRASSE", ["STRASSE"]),
    ],
)
def test_words_and_phrases_without_case_and_outer_punctuation(words, text, expected):
    assert marked(Rules(words={"Play": words}), record(text)) == {"text": expected}


def test_only_the_words_of_the_own_label_are_marked():
    rules = Rules(words={"Play": ["play"], "Rate": ["song"]})
    assert marked(rules, record()) == {"text": ["play"]}
    assert marked(rules, record(label="Other")) == {"text": []}


def test_without_a_label_there_is_nothing_to_look_at():
    (words, patterns) = apply_rules(
        {"w": Rules(words={"Play": ["play"]}), "p": Rules(patterns=["(?P<x>song)"])}, record(label=None)
    ).annotations
    assert (words.rationale, words.label) == (None, None)  # not asked, which is not the same as nothing marked
    assert patterns.rationale == {"text": ((9, 13),)}


def test_patterns_mark_every_named_group_of_every_match_as_whole_words():
    rules = Rules(patterns=[r"(?P<a>\d) (of) (?P<b>\w)", "(?P<c>zzz)?"])
    assert marked(rules, record("4 of 6 and 2 OF ten")) == {"text": ["4", "6", "2", "ten"]}


def test_fields_can_be_chosen():
    rules = Rules(patterns=["(?P<x>man)"], fields=["hypothesis"])
    assert marked(rules, record(PAIR)) == {"hypothesis": ["man,"]}
    with pytest.raises(InputError, match="rules of 'a': record '1' has no field 'hypothesis'; it has text"):
        apply_rules({"a": rules}, record())


def test_words_of_languages_without_spaces():
    assert marked(Rules(words={"Play": ["音樂"]}), record("聽音樂了"), segment=character_words) == {"text": ["音樂"]}


def test_a_name_that_is_taken_is_refused():
    rules = {"a": Rules(patterns=["(?P<x>song)"])}
    with pytest.raises(InputError, match="record '1' has annotations of 'a' already"):
        apply_rules(rules, apply_rules(rules, record()))


def test_uses_are_counted_by_record_and_idle_rules_named():
    rules = {
        "w": Rules(words={"Play": ["song", "tune"], "Gone": ["x"]}),
        "p": Rules(patterns=["(?P<x>song)", "(?P<x>zzz)"]),
    }
    used = Counter()
    for text, label in (("song song", "Play"), ("a song", "Rate"), ("a song", "Play")):
        apply_rules(rules, record(text, label), used=used)
    assert used == {Rule("w", "Play", "song"): 2, Rule("p", None, "(?P<x>song)"): 3}
    assert len(list(all_rules(rules))) == 5
    assert list(idle_rules(rules, used, ["Play", "Rate"])) == [
        "w: no record has the label 'Gone' of its word list",
        "w: word 'tune' of Play is found in no record",
        "p: pattern '(?P<x>zzz)' is found in no record",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file has no rules"),
        ("[a]\nfields = ['text']\n", "a has no rules"),
        ("[a]\nword = 3\n", "a: unknown key 'word'; did you mean 'words'? (there are: words, patterns, fields)"),
        ("[b.words]\nx = ['y']\n[a]\npatterns = [3]\n", "a: field `patterns[0]`: expected `str`, got `int`"),
        ("words = 3\n", "words: expected a table, [annotator] with `words` or `patterns`, found 3"),
        ("[a]\npatterns = ['(?P<x>']\n", "is not a regular expression"),
        ("[a]\npatterns = ['x']\n", "has no named group"),
    ],
)
def test_a_wrong_rule_file_is_an_input_error(write, text, message):
    path = write("rules.toml", text)
    with pytest.raises(InputError) as caught:
        read_rules(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_missing_rule_file_is_told_as_such(tmp_path):
    with pytest.raises(InputError, match=r"no such file or directory; expected a TOML file of rules$"):
        read_rules(tmp_path / "rules.toml")
