"""What is taken for a causal language model, and what would be given a head that knows nothing."""

import pytest
from transformers import AutoModel, BertForMaskedLM, BertLMHeadModel

from raison.models.causal import load_causal
from raison.records import InputError


def loaded(folder):
    return load_causal(str(folder), "cpu", "float32", False)[0]


def saved(model, tokenizer, folder):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_without_its_own_head_is_refused_in_one_line(tiny, tmp_path):
    bert, gpt = tiny.build("bert"), tiny.build("gpt2")
    saved(gpt.model, gpt.tokenizer, tmp_path / "classifier")
    saved(bert.model, bert.tokenizer, tmp_path / "bert")
    saved(AutoModel.from_pretrained(tmp_path / "bert"), bert.tokenizer, tmp_path / "encoder")
    saved(BertForMaskedLM(bert.model.config), bert.tokenizer, tmp_path / "masked")
    for name, message in (
        ("classifier", "a GPT2ForSequenceClassification, not a causal language model"),
        ("encoder", "not a causal language model: the file of weights lacks cls.predictions"),
        ("masked", "a BertForMaskedLM, not a causal language model"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            loaded(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_head_that_is_tied_or_its_own_is_enough(tiny, tmp_path):
    gpt, bert = tiny.build("gpt2"), tiny.build("bert")
    saved(gpt.model, gpt.tokenizer, tmp_path / "classifier")
    bare = saved(AutoModel.from_pretrained(tmp_path / "classifier"), gpt.tokenizer, tmp_path / "bare")
    model = loaded(bare)
    assert model.lm_head.weight is model.transformer.wte.weight
    bert.model.config.is_decoder = True
    decoder = saved(BertLMHeadModel(bert.model.config), bert.tokenizer, tmp_path / "decoder")
    assert type(loaded(decoder)) is BertLMHeadModel
