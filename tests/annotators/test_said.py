"""Turns as tokens: the prompt's own first, whatever the tokenizer; the label is found; nothing is cut."""

import pytest

from answerers import TOKENIZERS, causal, tokenizer
from raison.annotators.said import tokens_of_turns
from raison.annotators.wording import load_wording
from raison.models.generator import LocalGenerator
from raison.training.recipes import end_of_turn

WORDING = load_wording("generic").__class__("Choose: {labels}\n{form}", labels={"yes": "yes it is", "no": "no"})
RESPONSE = WORDING.write("yes", "the man reads a book")
OTHER = WORDING.write("no", "no book in the park")


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_prompt_is_what_a_generator_reads_and_the_response_follows(kind, chat):
    words = tokenizer(kind, chat)
    generator = LocalGenerator(causal("llama", words), words)
    prompts = ["Does the premise entail it?\n", "Is it supported", "a man plays\nAnnotator: x\n"]
    found = tokens_of_turns(words, [(prompt, RESPONSE) for prompt in prompts], 512)
    for prompt in prompts:
        said = found[prompt, RESPONSE]
        assert list(said.prompt) == generator.encode([{"role": "user", "content": prompt}])
        assert said.ids[-1:] == end_of_turn(words)
        if kind != "wordpiece":  # which loses line breaks
            assert words.decode(said.ids[:-1]).replace("<0x0A>", "\n").strip() == RESPONSE  # a byte of its own


def test_a_token_over_the_border_leaves_the_prompt_as_it_is():
    """`ab` is one token, but the prompt ends with `a`: the response is tokenised by itself."""
    words = tokenizer("byte", False, corpus=["ab ab ab ab " * 20], size=290)
    assert len(words("ab", add_special_tokens=False).input_ids) == 1
    assert not words.chat_template
    words.chat_template = "{{ messages[0]['content'] }}"  # nothing between them
    found = tokens_of_turns(words, [("a", "b")], 512)["a", "b"]
    assert list(found.prompt) == words("a", add_special_tokens=False).input_ids
    assert list(found.ids[:1]) == words("b", add_special_tokens=False).input_ids


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "plain"])
@pytest.mark.parametrize("kind", ["byte", "sentencepiece"])
def test_the_tokens_of_the_label_are_found(kind, chat):
    words = tokenizer(kind, chat)
    for prompt in ("Is it so?\n", "Is it so"):
        said = tokens_of_turns(words, [(prompt, RESPONSE)], 512, WORDING)[prompt, RESPONSE]
        label = [index for index, own in zip(said.ids, said.label, strict=True) if own]
        assert words.decode(label).strip() == "yes it is"
        assert not said.label[-1]
    assert not any(tokens_of_turns(words, [("x\n", RESPONSE)], 512)["x\n", RESPONSE].label)


def test_what_is_too_long_is_left_out_and_nothing_is_cut():
    words = tokenizer()
    whole = tokens_of_turns(words, [("x\n", RESPONSE), ("x\n", OTHER)], 512)
    size = len(whole["x\n", RESPONSE].prompt) + len(whole["x\n", RESPONSE].ids)
    assert ("x\n", RESPONSE) in tokens_of_turns(words, [("x\n", RESPONSE)], size)
    assert tokens_of_turns(words, [("x\n", RESPONSE)], size - 1) == {}
    assert tokens_of_turns(words, [], 512) == {}
