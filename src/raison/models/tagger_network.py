"""The network of a word tagger: any encoder, a linear head over tags, and a conditional random field or none.

Words alone are states: special tokens, padding and the further tokens of a word take no part in the likelihood of a
tag sequence, nor in decoding. A word is read from the state of its first token, and a word that the model does not see
(cut off, or dropped by the tokenizer) is left out: those around it are neighbours then.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchcrf import CRF
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from raison.models.scorer import embeddings_are


class TaggerConfig(PreTrainedConfig):
    """What a tagger is made of; its tags are `id2label`, as for other models.

    Args:
        encoder: the configuration of the encoder.
        crf: whether tags that follow each other are scored together.
        dropout: of the states that the head reads.
        options: of every configuration, such as `id2label`.
    """

    model_type = "raison-tagger"
    initializer_range = 0.02  # of the head's weights

    def __init__(self, encoder: Any = None, crf: bool = True, dropout: float = 0.1, **options: Any) -> None:
        if isinstance(encoder, dict):
            encoder = AutoConfig.for_model(**encoder)
        self.encoder = AutoConfig.for_model("bert") if encoder is None else encoder
        self.crf = crf
        self.dropout = dropout
        super().__init__(**options)

    @property
    def num_hidden_layers(self) -> int:
        """How many layers the encoder has, said where every model says it."""
        return self.encoder.num_hidden_layers


AutoConfig.register(TaggerConfig.model_type, TaggerConfig, exist_ok=True)  # its folder's tokenizer is found by it


@dataclass
class TaggerOutput(ModelOutput):
    """What the network gives."""

    loss: Tensor | None = None  # (): mean of `nll` over the records in which a word is seen; with tags only
    emissions: Tensor | None = None  # (rows, words, tags) scores; 0 at words that are not seen
    nll: Tensor | None = None  # (rows,): negative log-likelihood of each record's tags; with tags only


class TaggerNetwork(PreTrainedModel):
    """Gives every word a score for each tag, and whole tag sequences a likelihood.

    Lafferty, McCallum, Pereira 2001, section 3: log p(y | x) = score(x, y) - log of the sum over all y' of exp of
    score(x, y'), where the score adds up emissions, the transition from each tag to the next, and one at either end.

    Args:
        config: see `TaggerConfig`.
        encoder: a loaded encoder; default: a new one with random weights, to be filled by `from_pretrained`.
    """

    config_class = TaggerConfig
    base_model_prefix = "encoder"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _keep_in_fp32_modules_strict = ["crf"]  # noqa: RUF012

    def __init__(self, config: TaggerConfig, encoder: Any = None) -> None:
        super().__init__(config)
        if encoder is None:  # in the precision asked for, not in that of the configuration
            encoder = AutoModel.from_config(config.encoder, dtype=torch.get_default_dtype())
        self.encoder = encoder
        if "add_pooling_layer" in inspect.signature(type(self.encoder).__init__).parameters:
            self.encoder.pooler = None  # reads the first token, for nobody here
        self.config.encoder = self.encoder.config  # one object, so that a change of the attention reaches both
        self.dropout = nn.Dropout(config.dropout)
        tags = len(config.id2label or {})
        self.head = nn.Linear(self.encoder.config.hidden_size, tags)
        self.crf: Any = CRF(tags, batch_first=True) if config.crf else None
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill what a checkpoint did not; transformers creates it without values."""
        super()._init_weights(module)
        if isinstance(module, CRF):
            module.reset_parameters()

    def get_input_embeddings(self) -> Any:
        """Give the encoder's word embeddings."""
        return self.encoder.get_input_embeddings()

    def forward(  # noqa: PLR0917
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        word_index: Tensor | None = None,
        tags: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> TaggerOutput:
        """Score the tags of each word; differentiable.

        Args:
            input_ids: (rows, tokens).
            attention_mask: (rows, tokens).
            token_type_ids: (rows, tokens), where the encoder reads them.
            word_index: (rows, words), the position of each word's first token; -1 = padding, or a word not seen.
            tags: (rows, words), gold tags; anything where `word_index` is -1.
            inputs_embeds: (rows, tokens, hidden) taken in place of the word embeddings of `input_ids`, which still say
                where padding is.

        Raises:
            ValueError: `word_index` is missing.
        """
        if word_index is None:
            raise ValueError("word_index says where the words are; it is needed")
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        with embeddings_are(self.encoder, inputs_embeds):
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        seen = word_index >= 0
        rows = torch.arange(len(states), device=states.device)[:, None]
        emissions = self.head(self.dropout(states[rows, word_index.clamp(min=0)]))
        emissions = emissions.masked_fill(~seen[..., None], 0)
        if tags is None:
            if self.crf is not None and self.training:  # several devices look here for the weights that learn
                emissions = emissions + 0 * torch.stack([weight.sum() for weight in self.crf.parameters()]).sum()
            return TaggerOutput(emissions=emissions)
        nll = -self.log_likelihood(emissions, tags, seen)
        return TaggerOutput(loss=nll.sum() / seen.any(dim=1).sum().clamp(min=1), emissions=emissions, nll=nll)

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Compute log p(all tags of a record | x): (rows,), float32, or float64 where the emissions are.

        Never a probability on the way, so that nothing underflows however long a record is; outside of autocast. Can be
        differentiated twice. A record without a word that is seen has the likelihood of the empty sequence: log 1 = 0.

        Args:
            emissions: (rows, words, tags).
            tags: (rows, words), indices of tags; anything where the mask is False.
            mask: (rows, words), True at words that are seen. They may stand anywhere in a row.
        """
        dtype = torch.promote_types(emissions.dtype, torch.float32)
        with torch.autocast(emissions.device.type, enabled=False):
            emissions = emissions.to(dtype).masked_fill(~mask[..., None], 0)
            tags = torch.where(mask, tags, 0)
            if self.crf is None:
                chosen = emissions.log_softmax(dim=-1).gather(-1, tags[..., None]).squeeze(-1)
                return torch.where(mask, chosen, 0).sum(dim=1)
            if not mask.shape[1]:
                return emissions.sum(dim=(1, 2))
            emissions, mask, order = _to_the_left(emissions, mask)
            # torchcrf adds scores up in the precision of its parameters, whatever that of the emissions
            own = {name: value.to(dtype) for name, value in self.crf.named_parameters()}
            given = (emissions, tags.gather(1, order), _first_on(mask), "none")
            return torch.where(mask[:, 0], functional_call(self.crf, own, given), 0)

    @torch.no_grad()
    def decode(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """Find the most likely tags: (rows, words) indices, -1 where the mask is False.

        By Viterbi's algorithm with a random field, else the best tag of each word. No sequence is forbidden: that an
        `I-` follows its own kind is for the model to learn.

        Args:
            emissions: (rows, words, tags).
            mask: (rows, words), True at words that are seen.
        """
        if self.crf is None:
            return torch.where(mask, emissions.argmax(dim=-1), -1)
        best = torch.full(mask.shape, -1, device=mask.device)
        if mask.any():
            packed, packed_mask, _ = _to_the_left(emissions.masked_fill(~mask[..., None], 0), mask)
            paths = self.crf.decode(packed.to(torch.promote_types(packed.dtype, torch.float32)), _first_on(packed_mask))
            read = packed_mask[:, 0].tolist()
            found = [tag for path, some in zip(paths, read, strict=True) if some for tag in path]
            best[mask] = torch.tensor(found, device=mask.device)
        return best


def _to_the_left(emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Move the words that are seen to the front of their rows, in order; give the order (rows, words) too."""
    order = mask.int().argsort(dim=1, descending=True, stable=True)
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    return emissions[rows, order], mask.gather(1, order), order


def _first_on(mask: Tensor) -> Tensor:
    """Give every row a first state, as torchcrf wants it; what rows without any word get by it is not used."""
    first = torch.arange(mask.shape[1], device=mask.device) == 0
    return mask | first
