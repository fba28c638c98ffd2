"""Captum and Inseq on a causal model, as their documentation shows it and at the best setting found; and the floor.

Every call takes the same saved model and prompts and gives scores per word; what is explained is the log-probability of
one token after the prompt (the label predicted), or of each token of a continuation. Run as a script this file serves
one interpreter's peers over a pipe: `python causal_peers.py FOLDER THREADS`.
"""

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import causal_floor
import causal_texts
import common
import floor
from common import Arrays
from peers import Call


class Setup:
    """Model, tokenizer, token ids and what is explained."""

    def __init__(self, folder: Path) -> None:
        self.model, self.tokenizer, self.texts = causal_texts.load(folder)
        self.rows: list[list[int]] = [self.tokenizer(text).input_ids for text in self.texts.prompts]
        self.labels: list[int] = self.tokenizer.convert_tokens_to_ids(list(causal_texts.LABELS))
        self.predicted = [self._predict(ids) for ids in self.rows]
        self.replies = [self.tokenizer(text, add_special_tokens=False).input_ids for text in self.texts.replies]

    def _predict(self, ids: list[int]) -> int:
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids])).logits[0, -1, self.labels]
        return self.labels[int(logits.argmax())]

    def words(self, tokens: Any) -> Arrays:
        """Leave the beginning of each prompt out: (words,) or (words, reply tokens) of each."""
        return [
            np.asarray(values, dtype=np.float64)[1 : len(ids)] for ids, values in zip(self.rows, tokens, strict=False)
        ]


# -------------------------------------------------------------------------------------------------------- floor


def of_floor(setup: Setup) -> list[Call]:
    """Straight torch code on token ids; the label explained is given."""
    model, rows, targets = setup.model, setup.rows, setup.predicted
    unknown = setup.tokenizer.unk_token_id
    floor.freeze(model)

    def call(method: str, run: Callable[[], Any], data: str = "prompts", **same_as: Any) -> Call:
        return Call("floor", method, "hand-stacked", True, data, run, setup.words, same_as)

    one = (rows[0], setup.replies[0])
    return [
        call("gradient", lambda: causal_floor.gradients(model, rows, targets, product=False)),
        call("input_x_gradient", lambda: causal_floor.gradients(model, rows, targets, product=True)),
        call("integrated_gradients", lambda: causal_floor.integrated_gradients(model, rows, targets, unknown)),
        call("occlusion", lambda: causal_floor.occlusion(model, rows, targets, unknown), mask="unknown"),
        call("occlusion", lambda: [causal_floor.occlusion_of_reply(model, *one, unknown)], "reply"),
        call("input_x_gradient", lambda: [causal_floor.gradients_of_reply(model, *one)], "reply"),
    ]


# ------------------------------------------------------------------------------------------------------- captum


class Captum:
    """Captum's layer for language models, and Captum with padded batches by hand."""

    def __init__(self, setup: Setup) -> None:
        self.setup, self.model = setup, setup.model
        self.embed = setup.model.get_input_embeddings()

    def language(self, method: Any, data: str = "prompts", **options: Any) -> list[Any]:
        """Explain one prompt a call through `LLMAttribution` or `LLMGradientAttribution`."""
        from captum.attr import TextTokenInput

        setup, found = self.setup, list[Any]()
        unknown = setup.tokenizer.unk_token_id
        for index, text in enumerate(setup.texts.prompts if data == "prompts" else setup.texts.prompts[:1]):
            target = [setup.predicted[index]] if data == "prompts" else setup.replies[index]
            given = TextTokenInput(text, setup.tokenizer, baselines=unknown, skip_tokens=[0])
            result = method.attribute(given, target=torch.tensor(target), **options)
            scores = result.token_attr.detach().numpy()  # (targets, tokens without <s>)
            full = np.concatenate([np.zeros((len(scores), 1)), scores], axis=1).T
            found.append(full[:, 0] if data == "prompts" else full)
        return found

    def by_hand(self, method: Any, size: int = 8, **options: Any) -> list[Any]:
        """Explain batches of prompts of like length, padded on the right; a row's own last position is read."""
        setup, found = self.setup, [None] * len(self.setup.rows)
        order = sorted(range(len(found)), key=lambda i: -len(setup.rows[i]))
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            ids, mask = causal_floor.pad([setup.rows[i] for i in chosen])
            embeddings = self.embed(ids).detach().requires_grad_()
            more = dict(options)
            if "n_steps" in options:
                unknown = torch.full_like(ids, setup.tokenizer.unk_token_id)
                unknown[:, 0] = 0
                more["baselines"] = self.embed(unknown).detach()
            target = torch.tensor([setup.predicted[i] for i in chosen])
            values = method.attribute(embeddings, target=target, additional_forward_args=mask, **more)
            for i, row in zip(chosen, values.detach(), strict=True):
                found[i] = row
        return found

    def forward(self, embeddings: Any, mask: Any) -> Any:
        """Score embeddings: what Captum is given."""
        logits = self.model(inputs_embeds=embeddings, attention_mask=mask, use_cache=False).logits
        return logits[torch.arange(len(mask)), mask.sum(dim=1) - 1].log_softmax(dim=-1)

    def ablate(self, size: int) -> list[Any]:
        """Mask tokens one after the other, with a forward function of one's own that takes many at once."""
        from captum.attr import FeatureAblation

        setup, found = self.setup, list[Any]()

        def forward(inner: Any) -> Any:
            ids = torch.cat([torch.zeros_like(inner[:, :1]), inner], dim=1)
            return self.model(ids, use_cache=False).logits[:, -1].log_softmax(dim=-1)

        for ids, target in zip(setup.rows, setup.predicted, strict=True):
            with torch.no_grad():
                scores = FeatureAblation(forward).attribute(
                    torch.tensor([ids[1:]]),
                    baselines=setup.tokenizer.unk_token_id,
                    target=target,
                    perturbations_per_eval=size,
                )
            found.append(np.append(0.0, scores[0].numpy()))
        return found


def of_captum(setup: Setup) -> list[Call]:
    from captum.attr import (
        FeatureAblation,
        InputXGradient,
        IntegratedGradients,
        LayerGradientXActivation,
        LayerIntegratedGradients,
        LLMAttribution,
        LLMGradientAttribution,
        Saliency,
    )

    captum, model, words = Captum(setup), setup.model, setup.tokenizer
    product = LLMGradientAttribution(LayerGradientXActivation(model, captum.embed), words)
    path = LLMGradientAttribution(LayerIntegratedGradients(model, captum.embed), words)
    ablation = LLMAttribution(FeatureAblation(model), words)
    saliency, hand, line = (make(captum.forward) for make in (Saliency, InputXGradient, IntegratedGradients))
    norm = lambda found: setup.words([values.norm(dim=-1) for values in found])  # noqa: E731
    total = lambda found: setup.words([values.sum(dim=-1) for values in found])  # noqa: E731

    def call(  # noqa: PLR0917
        method: str,
        setting: str,
        best: bool,
        run: Callable[[], Any],
        finish: Any = setup.words,
        data: str = "prompts",
        **same_as: Any,
    ) -> Call:
        return Call("captum", method, setting, best, data, run, finish, same_as)

    unknown = {"mask": "unknown"}
    return [
        call("gradient", "one prompt a call", False, lambda: captum.by_hand(saliency, 1, abs=False), norm),
        call("gradient", "padded batches of 8 by hand", True, lambda: captum.by_hand(saliency, abs=False), norm),
        call("input_x_gradient", "LLMGradientAttribution", False, lambda: captum.language(product)),
        call("input_x_gradient", "padded batches of 8 by hand", True, lambda: captum.by_hand(hand), total),
        call("integrated_gradients", "LLMGradientAttribution", False, lambda: captum.language(path, n_steps=50)),
        call(
            "integrated_gradients",
            "internal_batch_size=8 by hand",
            True,
            lambda: captum.by_hand(line, 1, n_steps=50, internal_batch_size=8),
            total,
        ),
        call("occlusion", "LLMAttribution", False, lambda: captum.language(ablation), **unknown),
        call("occlusion", "perturbations_per_eval=8 by hand", True, lambda: captum.ablate(8), **unknown),
        call(
            "occlusion",
            "LLMAttribution, forward_in_tokens=False",
            True,
            lambda: captum.language(ablation, "reply", forward_in_tokens=False),
            data="reply",
        ),
        call(
            "input_x_gradient", "LLMGradientAttribution", True, lambda: captum.language(product, "reply"), data="reply"
        ),
    ]


# -------------------------------------------------------------------------------------------------------- inseq


class Inseq:
    """Inseq as its documentation calls it: texts in, the continuation given; or generated, which lets it batch."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.models: dict[str, Any] = {}

    def model(self, method: str) -> Any:
        """Give the model under a method, made once; a method's hooks stay in the model it was made for."""
        import inseq

        if method not in self.models:
            self.models[method] = inseq.load_model(self.setup.model, method, tokenizer=self.setup.tokenizer)
        return self.models[method]

    def given(self, method: str, data: str = "prompts", **options: Any) -> list[Any]:
        """Explain prompts with their continuations given; Inseq takes them one at a time."""
        setup = self.setup
        prompts = setup.texts.prompts if data == "prompts" else setup.texts.prompts[:1]
        labels = setup.tokenizer.convert_ids_to_tokens(setup.predicted)
        after = labels if data == "prompts" else setup.texts.replies[:1]
        whole = [f"{prompt} {rest}" for prompt, rest in zip(prompts, after, strict=True)]
        return self._attribute(method, prompts, generated_texts=whole, **options)

    def generated(self, method: str, size: int = 8, **options: Any) -> list[Any]:
        """Explain prompts in batches: Inseq does so where it generates; only labels are allowed."""
        allowed = {"max_new_tokens": 1, "prefix_allowed_tokens_fn": lambda *_: self.setup.labels, "do_sample": False}
        return self._attribute(method, self.setup.texts.prompts, batch_size=size, generation_args=allowed, **options)

    def _attribute(self, method: str, prompts: list[str], **options: Any) -> list[Any]:
        if method == "integrated_gradients":
            options.setdefault("n_steps", 50)
        found = self.model(method).attribute(
            prompts, attributed_fn="probability", logprob=True, show_progress=False, **options
        )
        return list(found.sequence_attributions)

    def scores(self, found: list[Any], combine: Callable[[Any], Any]) -> Arrays:
        """Turn what Inseq returns into scores of words: (words,), or (words, reply tokens)."""
        values = list[Any]()
        for sequence, ids in zip(found, self.setup.rows, strict=False):
            ours = [token.id for token in sequence.target]
            first = ours.index(ids[1]) - 1  # batches are padded on the left
            rows = combine(sequence.target_attributions.double())[first : first + len(ids)]
            values.append(rows[:, 0] if rows.shape[1] == 1 else rows)
        return self.setup.words(values)


def of_inseq(setup: Setup) -> list[Call]:
    inseq = Inseq(setup)
    norm = lambda found: inseq.scores(found, lambda x: x.norm(dim=-1))  # noqa: E731
    total = lambda found: inseq.scores(found, lambda x: x.sum(dim=-1))  # noqa: E731
    plain = lambda found: inseq.scores(found, lambda x: x)  # noqa: E731
    unsigned = "absolute values"

    def call(  # noqa: PLR0917
        method: str,
        setting: str,
        best: bool,
        run: Callable[[], Any],
        finish: Any,
        data: str = "prompts",
        note: str = "",
        **same_as: Any,
    ) -> Call:
        return Call("inseq", method, setting, best, data, run, finish, same_as, note)

    def occlusion(**options: Any) -> Any:
        return inseq.given("occlusion", **options)

    path = "integrated_gradients"
    return [
        call("gradient", "target given", False, lambda: inseq.given("saliency", abs=False), norm),
        call("gradient", "generates, batch 8", True, lambda: inseq.generated("saliency", abs=False), norm),
        call("input_x_gradient", "target given", False, lambda: inseq.given("input_x_gradient"), total),
        call("input_x_gradient", "generates, batch 8", True, lambda: inseq.generated("input_x_gradient"), total),
        call(path, "target given", False, lambda: inseq.given(path), total),
        call(path, "internal_batch_size=8", True, lambda: inseq.given(path, internal_batch_size=8), total),
        call("occlusion", "target given", False, occlusion, plain, note=unsigned, mask="unknown"),
        call(
            "occlusion",
            "perturbations_per_eval=8",
            True,
            lambda: occlusion(perturbations_per_eval=8),
            plain,
            note=unsigned,
            mask="unknown",
        ),
        call("occlusion", "target given", False, lambda: occlusion(data="reply"), plain, "reply", unsigned),
        call(
            "occlusion",
            "perturbations_per_eval=8",
            True,
            lambda: occlusion(data="reply", perturbations_per_eval=8),
            plain,
            "reply",
            unsigned,
        ),
        call(
            "input_x_gradient", "target given", True, lambda: inseq.given("input_x_gradient", "reply"), total, "reply"
        ),
    ]


PEERS: dict[str, tuple[str, Callable[[Setup], list[Call]]]] = {
    "floor": ("torch", of_floor),
    "captum": ("captum", of_captum),
    "inseq": ("inseq", of_inseq),
}


def importable(peer: str) -> bool:
    return importlib.util.find_spec(PEERS[peer][0]) is not None


# ------------------------------------------------------------------------------------------------------ answering


def answering(folder: Path) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Give what answers requests: `calls` of a peer, one `run`, and the `scores` of the last run."""
    calls: dict[str, list[Call]] = {}
    last: dict[int, Any] = {}

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        peer = request["peer"]
        if request["do"] == "calls":
            common.clock = getattr(time, request["clock"])
            calls[peer] = PEERS[peer][1](Setup(folder))
            kept = ("peer", "method", "setting", "best", "data", "same_as", "note")
            return {"calls": [{name: getattr(call, name) for name in kept} for call in calls[peer]]}
        call = calls[peer][request["index"]]
        if request["do"] == "run":
            took, last[0] = common.seconds(call.run)
            return {"seconds": took}
        return {"scores": [values.tolist() for values in call.finish(last[0])]}

    return answer


def main() -> None:
    torch.set_num_threads(int(sys.argv[2]))
    common.serve(answering(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
