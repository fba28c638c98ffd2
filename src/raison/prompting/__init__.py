"""Prompting: rationales that a model gives when it is asked which words its answer rests on."""

from raison.prompting.extract import Asking, explain, explain_to_file
from raison.prompting.labels import read_label
from raison.prompting.match import Matched, match
from raison.prompting.parse import Items, read_reply
from raison.prompting.requests import Request, ask, load_request
from raison.prompting.served import Served

__all__ = [
    "Asking",
    "Items",
    "Matched",
    "Request",
    "Served",
    "ask",
    "explain",
    "explain_to_file",
    "load_request",
    "match",
    "read_label",
    "read_reply",
]
