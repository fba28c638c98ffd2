"""The peers' own calls, each as its documentation shows it and at the best setting found.

Every call takes the same saved model and texts, and gives scores per word in the end; turning what a peer returns into
that is not timed. Run as a script this file serves one interpreter's peers over a pipe:
`python peers.py FOLDER THREADS`.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import common
import floor
from common import TARGET, Arrays


class Call(NamedTuple):
    """One way to call a peer."""

    peer: str
    method: str  # gradient, input_x_gradient, integrated_gradients or occlusion
    setting: str
    best: bool  # False = the form its documentation shows or its defaults
    data: str  # "pairs" or "singles"
    run: Callable[[], Any]  # what is timed
    finish: Callable[[Any], Arrays]  # scores of words, of each record
    same_as: dict[str, Any] | None  # options of `raison.extract` that follow the same convention; None = none does
    note: str = ""  # where conventions differ, how


class Setup:
    """Model, tokenizer and texts, and where the words are."""

    def __init__(self, folder: Path) -> None:
        self.model, self.tokenizer, self.texts = common.load(folder)
        self.data: dict[str, list[Any]] = {
            "pairs": self.texts.pairs,
            "singles": self.texts.singles,
            "long": [self.texts.long],
        }
        self.groups = {name: [self._groups(item) for item in items] for name, items in self.data.items()}

    def encode(self, item: Any, **options: Any) -> Any:
        """Tokenize a text or a pair."""
        return self.tokenizer(*([item] if isinstance(item, str) else item), **options)

    def rows(self, data: str) -> floor.Sequences:
        """Give ids and token types of all items."""
        return [(found.input_ids, found.token_type_ids) for found in (self.encode(item) for item in self.data[data])]

    def _groups(self, item: Any) -> list[list[int]]:
        """Give the positions of each word's tokens."""
        encoding = self.encode(item).encodings[0]
        found: dict[tuple[int, int], list[int]] = {}
        for position, word in enumerate(zip(encoding.sequence_ids, encoding.word_ids, strict=True)):
            if word[0] is not None:
                found.setdefault(word, []).append(position)
        return list(found.values())

    def words(self, data: str, tokens: Any, first: int = 0) -> Arrays:
        """Sum scores of tokens over words; `first` is the position of the first score."""
        return [
            np.array([sum(float(values[position - first]) for position in group) for group in groups])
            for groups, values in zip(self.groups[data], tokens, strict=True)
        ]


# -------------------------------------------------------------------------------------------------------- floor


def of_floor(setup: Setup) -> list[Call]:
    """Straight torch code on token ids; it gets the ids, not the texts."""
    rows, groups = setup.rows("pairs"), setup.groups["pairs"]
    model, mask = setup.model, setup.tokenizer.mask_token_id
    floor.freeze(model)

    def call(method: str, run: Callable[[], Any], finish: Any, **same_as: Any) -> Call:
        return Call("floor", method, "hand-stacked", True, "pairs", run, finish, same_as)

    words = lambda tokens: setup.words("pairs", tokens)  # noqa: E731
    return [
        call("gradient", lambda: floor.gradients(model, rows, TARGET, product=False), words),
        call("input_x_gradient", lambda: floor.gradients(model, rows, TARGET, product=True), words),
        call("integrated_gradients", lambda: floor.integrated_gradients(model, rows, TARGET), words),
        call("occlusion", lambda: floor.occlusion(model, rows, TARGET, groups, mask), list, unit="token"),
    ]


# ------------------------------------------------------------------------------------------------------- captum


class Captum:
    """Captum as its tutorials for text call it: a forward function of embeddings, one item a call or padded by hand."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.model = setup, setup.model
        self.embed = setup.model.get_input_embeddings()

    def forward(self, embeddings: Any, mask: Any, types: Any) -> Any:
        """Score embeddings: what Captum is given."""
        return self.model(inputs_embeds=embeddings, attention_mask=mask, token_type_ids=types).logits

    def one_by_one(self, method: Any, data: str = "pairs", **options: Any) -> list[Any]:
        """Explain one item a call."""
        found: list[Any] = []
        for item in self.setup.data[data]:
            given = self.setup.encode(item, return_tensors="pt")
            embeddings = self.embed(given.input_ids).detach().requires_grad_()
            more = (given.attention_mask, given.token_type_ids)
            found.append(method.attribute(embeddings, target=TARGET, additional_forward_args=more, **options)[0])
        return found

    def padded(self, method: Any, size: int = 32, **options: Any) -> list[Any]:
        """Go through batches of items of like length, padded by the tokenizer."""
        items = self.setup.data["pairs"]
        order = sorted(range(len(items)), key=lambda i: len(" ".join(items[i])))
        found: list[Any] = [None] * len(items)
        for start in range(0, len(items), size):
            chosen = order[start : start + size]
            sides = list(zip(*(items[i] for i in chosen), strict=True))
            given = self.setup.tokenizer(*map(list, sides), padding=True, return_tensors="pt")
            embeddings = self.embed(given.input_ids).detach().requires_grad_()
            more = (given.attention_mask, given.token_type_ids)
            scores = method.attribute(embeddings, target=TARGET, additional_forward_args=more, **options)
            for i, values in zip(chosen, scores, strict=True):
                found[i] = values
        return found

    def ablate(self, **options: Any) -> list[Any]:
        """Mask the words one after the other; only tokens of words are handed over, so that no special is ablated."""
        from captum.attr import FeatureAblation

        mask_id = self.setup.tokenizer.mask_token_id
        found: list[Any] = []
        for item, groups in zip(self.setup.data["pairs"], self.setup.groups["pairs"], strict=True):
            given = self.setup.encode(item, return_tensors="pt")
            places = torch.tensor([position for group in groups for position in group])
            feature = torch.tensor([[word for word, group in enumerate(groups) for _ in group]])

            def forward(inner: Any, whole: Any, types: Any, places: Any = places) -> Any:
                ids = whole.repeat(len(inner) // len(whole), 1)
                ids[:, places] = inner
                mask = torch.ones_like(ids)
                return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types.expand_as(ids)).logits

            with torch.no_grad():
                found.append(
                    FeatureAblation(forward).attribute(
                        given.input_ids[:, places],
                        baselines=mask_id,
                        target=TARGET,
                        feature_mask=feature,
                        additional_forward_args=(given.input_ids, given.token_type_ids),
                        **options,
                    )[0]
                )
        return found


def of_captum(setup: Setup) -> list[Call]:
    from captum.attr import InputXGradient, IntegratedGradients, Saliency

    captum = Captum(setup)
    saliency, product, path = (make(captum.forward) for make in (Saliency, InputXGradient, IntegratedGradients))
    norm = lambda found: setup.words("pairs", [values.norm(dim=-1).tolist() for values in found])  # noqa: E731
    total = lambda found: setup.words("pairs", [values.sum(dim=-1).tolist() for values in found])  # noqa: E731

    def first_of_each(found: list[Any]) -> Arrays:
        starts = [np.cumsum([0, *map(len, groups)])[:-1] for groups in setup.groups["pairs"]]
        return [values.numpy()[start] for values, start in zip(found, starts, strict=True)]

    def call(method: str, setting: str, best: bool, run: Callable[[], Any], finish: Any, **same_as: Any) -> Call:
        return Call("captum", method, setting, best, "pairs", run, finish, same_as)

    return [
        call("gradient", "one item a call", False, lambda: captum.one_by_one(saliency, abs=False), norm),
        call("gradient", "padded batches of 32 by hand", True, lambda: captum.padded(saliency, abs=False), norm),
        call("input_x_gradient", "one item a call", False, lambda: captum.one_by_one(product), total),
        call("input_x_gradient", "padded batches of 32 by hand", True, lambda: captum.padded(product), total),
        call("integrated_gradients", "one item a call", False, lambda: captum.one_by_one(path), total),
        call(
            "integrated_gradients",
            "internal_batch_size=32",
            True,
            lambda: captum.one_by_one(path, internal_batch_size=32),
            total,
        ),
        call("occlusion", "one item a call", False, captum.ablate, first_of_each, unit="token"),
        call(
            "occlusion",
            "perturbations_per_eval=32",
            True,
            lambda: captum.ablate(perturbations_per_eval=32),
            first_of_each,
            unit="token",
        ),
    ]


# --------------------------------------------------------------------------------------------------- interpreto


def of_interpreto(setup: Setup) -> list[Call]:
    from interpreto import Granularity, IntegratedGradients, Occlusion, Saliency

    targets = torch.tensor([TARGET])
    unsigned = "mean of absolute values over the hidden axis"

    def explain(make: Any, batch_size: int, **options: Any) -> list[Any]:
        # single texts: of a pair, even pre-encoded, words of the same number in both sentences are taken for one
        explainer = make(setup.model, setup.tokenizer, batch_size=batch_size, granularity=Granularity.WORD, **options)
        return explainer(setup.texts.singles, targets.repeat(len(setup.texts.singles)))

    def finish(found: list[Any]) -> Arrays:
        return [row.attributions[0].numpy() for row in found]

    def call(  # noqa: PLR0917
        method: str, make: Any, size: int, best: bool, same_as: Any, note: str = "", **options: Any
    ) -> Call:
        run = lambda: explain(make, size, **options)  # noqa: E731
        return Call("interpreto", method, f"batch {size}", best, "singles", run, finish, same_as, note)

    return [
        call("gradient", Saliency, 4, False, None, unsigned, input_x_gradient=False),
        call("gradient", Saliency, 1, True, None, unsigned, input_x_gradient=False),
        call("input_x_gradient", Saliency, 4, False, None, unsigned),
        call("input_x_gradient", Saliency, 1, True, None, unsigned),
        call(
            "integrated_gradients",
            IntegratedGradients,
            4,
            False,
            None,
            "not IG: absolute values inside the path average",
            n_perturbations=50,
        ),
        call("occlusion", Occlusion, 4, False, {"unit": "token"}),
        call("occlusion", Occlusion, 32, True, {"unit": "token"}),
    ]


# ---------------------------------------------------------------------------------- peers that read one text only


def of_transformers_interpret(setup: Setup) -> list[Call]:
    from transformers_interpret import SequenceClassificationExplainer

    note = "of the probability, another baseline, L2-normalised; the last token gets token type 1"

    def explain(**options: Any) -> list[Any]:
        explainer = SequenceClassificationExplainer(setup.model, setup.tokenizer)
        return [explainer(text, index=TARGET, **options) for text in setup.data["singles"]]

    def call(setting: str, best: bool, **options: Any) -> Call:
        run = lambda: explain(**options)  # noqa: E731
        name = "transformers-interpret"
        return Call(name, "integrated_gradients", setting, best, "singles", run, list, None, note)

    return [call("defaults", False), call("internal_batch_size=32", True, internal_batch_size=32)]


def of_ferret(setup: Setup) -> list[Call]:
    from ferret.explainers.gradient import GradientExplainer, IntegratedGradientExplainer

    def explain(make: Any, product: bool) -> list[Any]:
        explainer = make(setup.model, setup.tokenizer, multiply_by_inputs=product)
        return [explainer(text, target=TARGET) for text in setup.data["singles"]]

    def finish(found: list[Any]) -> Arrays:
        return setup.words("singles", [row.scores for row in found])

    def call(method: str, make: Any, product: bool, same_as: Any, note: str = "") -> Call:
        run = lambda: explain(make, product)  # noqa: E731
        return Call("ferret", method, "defaults", False, "singles", run, finish, same_as, note)

    return [
        call("gradient", GradientExplainer, False, None, "L1 norm over the hidden axis"),
        call("input_x_gradient", GradientExplainer, True, {}),
        call("integrated_gradients", IntegratedGradientExplainer, True, {"baseline": "pad"}),
    ]


PEERS: dict[str, tuple[str, Callable[[Setup], list[Call]]]] = {
    "floor": ("torch", of_floor),
    "captum": ("captum", of_captum),
    "interpreto": ("interpreto", of_interpreto),
    "transformers-interpret": ("transformers_interpret", of_transformers_interpret),
    "ferret": ("ferret", of_ferret),
}


def importable(peer: str) -> bool:
    return importlib.util.find_spec(PEERS[peer][0]) is not None


# ----------------------------------------------------------------------------------- in an interpreter of its own


def main() -> None:
    """Serve the calls of one interpreter's peers: `calls` of a peer, one `run`, and the `scores` of the last run."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(threads)
    calls: dict[str, list[Call]] = {}
    last: dict[int, Any] = {}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        peer = request["peer"]
        if request["do"] == "calls":
            calls[peer] = PEERS[peer][1](Setup(folder))
            kept = ("peer", "method", "setting", "best", "data", "same_as", "note")
            return {"calls": [{name: getattr(call, name) for name in kept} for call in calls[peer]]}
        call = calls[peer][request["index"]]
        if request["do"] == "run":
            took, last[0] = common.seconds(call.run)
            return {"seconds": took}
        return {"scores": [values.tolist() for values in call.finish(last[0])] if call.same_as is not None else None}

    common.serve(answer)


if __name__ == "__main__":
    main()
