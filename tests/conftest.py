"""Tiny random classifiers of five architectures, with tokenizers built on the spot: nothing is downloaded."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import string
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from raison.models import Classifier
from raison.records import Record

torch.set_num_threads(1)  # the models are so small that a second thread costs more than it gives

LABELS = ("entailment", "neutral", "contradiction")
KINDS = ("bert", "roberta", "distilbert", "gpt2", "llama")
WORDS = (
    "a",
    "the",
    "man",
    "woman",
    "dog",
    "plays",
    "sleeps",
    "reads",
    "red",
    "book",
    "in",
    "park",
    "is",
    "not",
    "happy",
)
TEXTS = (
    ("A man plays in the park.", "The man is not happy!"),
    ("The woman reads a red book", "A woman sleeps"),
    ("unbelievably, dogs (plays) café naïve", "is 😀 emoji  in   the park"),
    ("the", "a dog sleeps in the red park is the woman not happy the man reads the book in a park"),
)


def bert_tokenizer(words=WORDS, types=True):
    """Lower-casing WordPiece: the given words are one token each, all others fall into letters."""
    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    vocabulary += [word for word in words if word not in vocabulary]
    backend = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    inputs = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, mask_token="[MASK]", model_input_names=inputs, **names)


def byte_tokenizer(kind):
    """Byte-level BPE with few merges, special tokens as RoBERTa, GPT-2 (none around the text) or Llama has them."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if kind == "roberta" else ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    backend.train_from_iterator([text for pair in TEXTS for text in pair] * 2, trainer)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    if kind == "roberta":
        backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
        names.update(unk_token="<unk>", mask_token="<mask>", cls_token="<s>", sep_token="</s>")
    if kind == "llama":
        backend.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 0)])
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_input_names=inputs, **names)


def build(kind, seed=0, positions=96, **options):
    """Make a classifier with three labels and random weights that are large enough to give scores of some size."""
    tokenizer = bert_tokenizer(types=kind == "bert") if "bert" in kind and kind != "roberta" else byte_tokenizer(kind)
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "initializer_range": 0.25}
    common |= {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = {
        "bert": lambda: BertConfig(**common, **wide, max_position_embeddings=positions),
        "roberta": lambda: RobertaConfig(**common, **wide, max_position_embeddings=positions + 2),
        "distilbert": lambda: DistilBertConfig(
            **common, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=positions
        ),
        "gpt2": lambda: GPT2Config(
            **common, n_embd=32, n_layer=2, n_head=4, n_positions=positions, bos_token_id=0, eos_token_id=2
        ),
        "llama": lambda: LlamaConfig(**common, **wide, max_position_embeddings=positions),
    }[kind]()
    torch.manual_seed(seed)
    return Classifier(AutoModelForSequenceClassification.from_config(config), tokenizer, name=kind, **options)


def records(kind="pair"):
    """Give a few records of two fields ("pair"), or of one ("text")."""
    return [
        Record(str(i), {"premise": a, "hypothesis": b} if kind == "pair" else {"text": f"{a} {b}"}, label=LABELS[i % 3])
        for i, (a, b) in enumerate(TEXTS)
    ]


@pytest.hookimpl(trylast=True)  # after pytest has brought together what shares a fixture
def pytest_collection_modifyitems(items):
    """Put files with slow tests first, so that workers, each of which takes file by file, end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def save(folder, kind="bert"):
    """Write a folder with such a classifier, and give it."""
    classifier = build(kind)
    classifier.model.save_pretrained(folder)
    classifier.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """What `small_model` gives, trained once for all tests, whichever process they run in (its seed makes it one)."""
    from raison.training import small_model

    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def load(kind, seed=0, progress=None):
        folder = root / f"testbed-{kind}-{seed}"
        with FileLock(f"{folder}.lock"):
            if not (folder / "raison.txt").exists():
                made = small_model(kind, seed, progress)
                made.model.save_pretrained(folder)
                made.tokenizer.save_pretrained(folder)
                (folder / "raison.txt").write_text(made.name)
        return Classifier.load(folder, device="cpu", name=(folder / "raison.txt").read_text())

    return load


@pytest.fixture(scope="session")
def tiny():
    """The builders above, for tests that need a model of their own."""
    return SimpleNamespace(
        build=build, save=save, records=records, bert_tokenizer=bert_tokenizer, byte_tokenizer=byte_tokenizer
    )


@pytest.fixture(scope="session")
def classifiers():
    """One classifier for each architecture; tests must leave them as they are."""
    return {kind: build(kind) for kind in KINDS}


@pytest.fixture(scope="session", params=KINDS)
def classifier(request, classifiers):
    """Each architecture in turn."""
    return classifiers[request.param]
