"""Every word of real records is traced through the chat template to its tokens, with three kinds of tokenizer."""

from itertools import islice

import numpy as np
import pytest

from answerers import CORPUS, TOKENIZERS, causal, tokenizer
from raison.models import Answerer
from raison.sources import load
from shared import shared_file

FILES = ("esnli/test.jsonl.gz", "fever_eraser/test.jsonl.gz", "hatexplain/test.jsonl")


def dropped(made, word):
    """Whether a tokenizer's own normaliser leaves nothing of a word, as BERT's of a lone joiner or byte order mark."""
    normaliser = made.backend_tokenizer.normalizer
    return normaliser is not None and not normaliser.normalize_str(word)


@pytest.fixture(scope="module")
def records():
    """The records of each file."""
    return {name: load(str(shared_file(f"data/{name}"))) for name in FILES}


@pytest.mark.slow
@pytest.mark.parametrize("words", TOKENIZERS)
def test_no_word_of_the_test_sets_is_lost(words, records):
    texts = [text for rows in records.values() for record in islice(rows, 500) for text in record.fields.values()]
    made = tokenizer(words, corpus=[*CORPUS, *texts], size=4000)
    model = causal("llama", made, positions=4096)
    for name, rows in records.items():
        answerer = Answerer(model, made, rows[0].task, labels=rows[0].label_set)
        for record, row in zip(rows, answerer.encode(rows), strict=True):
            if not row.seen.all():
                spelled = [record.fields[field][a:b] for field, spans in row.grid.words.items() for a, b in spans]
                lost = [spelled[index] for index in np.flatnonzero(~row.seen)]
                assert all(dropped(made, word) for word in lost), (name, record.id, lost)
            assert row.ids.tolist().count(made.bos_token_id) == 1
