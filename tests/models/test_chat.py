"""What a local model reads of a conversation, with a chat template and without."""

import pytest

from raison.models.chat import failed, render
from raison.records import InputError

TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
OPEN = "{% if add_generation_prompt %}<assistant>{% endif %}"
PLAIN = "{{ bos_token }}" + TURNS + OPEN
REFUSING = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not\n supported') }}{% endif %}" + PLAIN
)
DROPPING = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}" + OPEN
)
TRIMMING = "{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}{% endfor %}" + OPEN
NOTHING = "{{ raise_exception('not today') }}"

SYSTEM = {"role": "system", "content": " Be brief. "}
USER = {"role": "user", "content": "Which words?"}
ASSISTANT = {"role": "assistant", "content": "dog"}
AGAIN = {"role": "user", "content": "Why?\n"}


@pytest.fixture
def tokenizer(tiny):
    return tiny.byte_tokenizer("llama")


@pytest.mark.parametrize(
    ("template", "messages", "text"),
    [
        (PLAIN, [SYSTEM, USER], "<s><system> Be brief. </s><user>Which words?</s><assistant>"),
        (PLAIN, [USER, ASSISTANT, AGAIN], "<s><user>Which words?</s><assistant>dog</s><user>Why?\n</s><assistant>"),
        (REFUSING, [SYSTEM, USER, ASSISTANT], "<s><user> Be brief. \n\nWhich words?</s><assistant>dog</s><assistant>"),
        (REFUSING, [USER], "<s><user>Which words?</s><assistant>"),
        (REFUSING, [SYSTEM], "<s><user> Be brief. </s><assistant>"),
        (REFUSING, [SYSTEM, ASSISTANT], "<s><user> Be brief. </s><assistant>dog</s><assistant>"),
        (DROPPING, [SYSTEM, USER], "<user> Be brief. \n\nWhich words?<assistant>"),
        (TRIMMING, [SYSTEM, AGAIN], "<system>Be brief.<user>Why?<assistant>"),
    ],
)
def test_a_template_writes_the_text_and_its_special_tokens(tokenizer, template, messages, text):
    tokenizer.chat_template = template
    before = [dict(message) for message in messages]
    assert render(tokenizer, messages) == (text, False)
    assert messages == before


def test_without_a_template_contents_are_joined_by_blank_lines(tokenizer):
    assert render(tokenizer, [SYSTEM, USER, ASSISTANT, AGAIN]) == (
        " Be brief. \n\nWhich words?\n\ndog\n\nWhy?\n",
        True,
    )
    assert render(tokenizer, [USER]) == ("Which words?", True)


def test_a_refusal_is_one_line(tokenizer):
    tokenizer.chat_template = NOTHING
    for messages in ([USER], [SYSTEM, USER]):
        with pytest.raises(InputError, match=r"its chat template refuses the conversation \(not today\)$"):
            render(tokenizer, messages)


def test_what_is_no_conversation_is_a_programmer_s_mistake(tokenizer):
    with pytest.raises(ValueError, match="at least one message"):
        render(tokenizer, [])
    with pytest.raises(ValueError, match="unknown role 'human'"):
        render(tokenizer, [{"role": "human", "content": "?"}])


def test_a_failure_is_one_line():
    assert failed("two\n lines").failure == "two lines"
    assert failed("x" * 9000).text is None
    assert len(failed("x" * 9000).failure) == 500
