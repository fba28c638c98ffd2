"""Words taken away in part: against embeddings zeroed by hand, and what the draws must not depend on."""

import numpy as np
import pytest
import torch

from raison.models.scorer import softmax
from raison.models.soft import predict_soft
from raison.records import Record


def by_hand(classifier, tokens, kept):
    """Predict one record from its embeddings, with those of the words that are not kept set to zero."""
    ids = torch.tensor(tokens.ids)[None]
    embeddings = classifier.model.get_input_embeddings()(ids).detach().clone()
    for place, word in enumerate(tokens.word.tolist()):
        if word >= 0 and not kept[word]:
            embeddings[0, place] = 0.0
    given = {"inputs_embeds": embeddings, "attention_mask": torch.ones_like(ids)}
    if "token_type_ids" in classifier.tokenizer.model_input_names:
        given["token_type_ids"] = torch.tensor(tokens.types)[None]
    with torch.no_grad():
        return softmax(classifier.model(**given).logits[0].numpy())


@pytest.mark.parametrize("kind", ["pair", "text"])
def test_whole_words_kept_or_dropped_equal_embeddings_zeroed_by_hand(classifier, tiny, kind):
    tokens = classifier.encode(tiny.records(kind))
    rng = np.random.default_rng(0)
    keep = [(rng.random((4, len(row.grid))) < 0.5).astype(float) for row in tokens]
    for rows in keep:
        rows[0], rows[1] = 1.0, 0.0
    whole = softmax(classifier.logits(tokens))
    for index, found in enumerate(classifier.predict_soft(tokens, keep, 2)):
        assert found.shape == (4, 2, 3)
        np.testing.assert_array_equal(found[:, 0].argmax(-1), found[:, 1].argmax(-1))
        np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-5)  # nothing is left to chance
        np.testing.assert_allclose(found[0, 0], whole[index], atol=1e-5)
        for variant in range(4):
            np.testing.assert_allclose(
                found[variant, 0], by_hand(classifier, tokens[index], keep[index][variant]), atol=1e-5
            )


def seen_embeddings(classifier, tokens, keep, draws, seed=0):
    """Give the embeddings (inputs, tokens, hidden) that the model gets for one record."""
    caught, forward = [], classifier.forward

    class Spy:
        labels, max_tokens, batch, embed = classifier.labels, 10**6, classifier.batch, classifier.embed

        @staticmethod
        def forward(batch, embeddings):
            caught.append(embeddings.clone())
            return forward(batch, embeddings)

    predict_soft(Spy, [tokens], [keep], draws, seed)
    return torch.cat(caught).numpy()


def test_each_element_stays_with_its_words_probability(tiny):
    classifier = tiny.build("bert")
    tokens = classifier.encode(tiny.records())[0]
    chance = np.linspace(0, 1, len(tokens.grid))
    found = seen_embeddings(classifier, tokens, chance[None], 400)
    whole = classifier.embed(classifier.batch([tokens])).numpy()[0]
    assert set(np.unique(found == whole[None]).tolist()) == {False, True}
    assert ((found == whole[None]) | (found == 0)).all()
    for place, word in enumerate(tokens.word.tolist()):
        stays = (found[:, place] == whole[place]).mean()
        assert stays == pytest.approx(1.0 if word < 0 else chance[word], abs=0.03)


def test_draws_do_not_depend_on_what_is_beside_them(tiny):
    classifier, alone = tiny.build("bert"), tiny.build("bert", max_tokens=1)
    tokens = classifier.encode(tiny.records())
    keep = [np.random.default_rng(len(row.grid)).random((3, len(row.grid))) for row in tokens]
    found = classifier.predict_soft(tokens, keep, 5, 7)
    one_by_one = alone.predict_soft(tokens, keep, 5, 7)
    for index in range(len(tokens)):
        np.testing.assert_allclose(found[index], one_by_one[index], atol=1e-5)  # nor on the batch
        (single,) = classifier.predict_soft([tokens[index]], [keep[index]], 5, 7)  # nor on other records
        np.testing.assert_allclose(found[index], single, atol=1e-5)
        (fewer,) = classifier.predict_soft([tokens[index]], [keep[index][1:2]], 3, 7)  # nor on variants and draws
        np.testing.assert_allclose(found[index][1:2, :3], fewer, atol=1e-5)
    assert np.abs(found[0] - classifier.predict_soft(tokens, keep, 5, 8)[0]).max() > 1e-4
    assert np.abs(found[0][:, 0] - found[0][:, 1]).max() > 1e-4
    renamed = classifier.encode([Record("other", tiny.records()[0].fields)])
    assert np.abs(found[0] - classifier.predict_soft(renamed, keep[:1], 5, 7)[0]).max() > 1e-4


def test_truncated_and_empty_records(tiny):
    classifier = tiny.build("bert", positions=12)
    records = [Record("long", {"text": "the man plays in the park " * 5}), Record("empty", {"text": ""})]
    tokens = classifier.encode(records)
    assert 0 < tokens[0].seen.sum() < len(tokens[0].grid)
    chance = np.where(tokens[0].seen, 0.5, np.nan)[None]  # what is not seen is not read
    found = classifier.predict_soft(tokens, [chance, np.zeros((1, 0))], 2)
    np.testing.assert_allclose(found[1][0], softmax(classifier.logits(tokens[1:]))[[0, 0]], atol=1e-6)
    assert np.isfinite(found[0]).all()
    assert [part.shape for part in classifier.predict_soft(tokens, [np.zeros((0, 30)), np.zeros((0, 0))], 2)] == [
        (0, 2, 3),
        (0, 2, 3),
    ]
