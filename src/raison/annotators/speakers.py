"""Who speaks as a person: a model that is here or behind a server, one for all people or one for each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from raison.annotators.export import file_name
from raison.annotators.policy import fingerprint
from raison.models.cache import Usage
from raison.models.causal import load_causal
from raison.models.generator import LocalGenerator
from raison.models.server import ServerGenerator
from raison.records import InputError
from raison.runs import digest

PERSON = "{annotator}"  # in the name of a model: each person has one


def model_of(model: str, annotator: str) -> str:
    """Give the name of the model that is here for a person; one with `{annotator}` in it is a folder.

    Raises:
        InputError: there is no such folder.
    """
    name = model.replace(PERSON, file_name(annotator))
    if name != model and not Path(name).is_dir():
        raise InputError(f"{name}: no such folder")
    return name


class Source(NamedTuple):
    """Where the model is, and how it answers."""

    model: str  # name, folder or hub id; `{annotator}` stands for the person
    server: str | None = None  # the address of the server that has it
    cache: str | None = None  # file that keeps replies
    reply_tokens: int = 128
    temperature: float = 0.0  # 0 = the most probable tokens
    seed: int = 0  # of the first sample's draws; those that follow have the next numbers
    concurrency: int = 8
    loading: Mapping[str, Any] = MappingProxyType({})  # device, dtype, four_bit, trust_remote_code
    settings: Mapping[str, Any] = MappingProxyType({})  # of a server, see `ServerGenerator`


class Cast:
    """The generators of a source. Of the models that are here one at a time is in memory: ask person by person.

    Args:
        source: where the model is.
        annotators: who is imitated.

    Attributes:
        models: name -> hash of each model, for the frame of a result.

    Raises:
        InputError: a model can't be loaded, or the server's settings are wrong.
    """

    def __init__(self, source: Source, annotators: Sequence[str]) -> None:
        self.source = source
        self._loaded: tuple[str, Any, Any] | None = None
        self._servers: dict[tuple[str, int], ServerGenerator] = {}
        self._usages: list[Usage] = []
        self.models = {name: self._mark(name) for name in dict.fromkeys(map(self._name, annotators))}

    def speaker(self, annotator: str, number: int) -> LocalGenerator | ServerGenerator:
        """Give the generator for a person and a sample."""
        name = self._name(annotator)
        return self._local(name, number) if self.source.server is None else self._served(name, number)

    @property
    def usage(self) -> Usage:
        """What all generators together were asked, and what that took."""
        total = Usage(price=self.source.settings.get("price"))
        for usage in self._usages:
            for field in msgspec.structs.fields(Usage):
                if field.name != "price":
                    setattr(total, field.name, getattr(total, field.name) + getattr(usage, field.name))
        return total

    def _name(self, annotator: str) -> str:
        if self.source.server is not None:  # it has names of its own; here they are folders
            return self.source.model.replace(PERSON, annotator)
        return model_of(self.source.model, annotator)

    def _mark(self, name: str) -> str:
        if self.source.server is not None:
            return digest([self.source.server, name])
        return fingerprint(self._network(name)[0])

    def _network(self, name: str) -> tuple[Any, Any]:
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None  # the last one goes before the next one comes
            how: dict[str, Any] = {
                "device": None,
                "dtype": "float32",
                "trust_remote_code": False,
                **self.source.loading,
            }
            self._loaded = (name, *load_causal(name, **how))
        return self._loaded[1:]

    def _local(self, name: str, number: int) -> LocalGenerator:
        source = self.source
        made = LocalGenerator(
            *self._network(name),
            name=name,
            max_new_tokens=source.reply_tokens,
            temperature=source.temperature,
            seed=source.seed + number,
            cache=source.cache,
            identity=self.models[name],
        )
        self._usages.append(made.usage)
        return made

    def _served(self, name: str, number: int) -> ServerGenerator:
        source = self.source
        if (name, number) not in self._servers:
            self._servers[name, number] = ServerGenerator(
                name,
                base_url=source.server,
                max_tokens=source.reply_tokens,
                temperature=source.temperature,
                seed=source.seed + number if source.temperature else None,
                concurrency=source.concurrency,
                cache=source.cache,
                **source.settings,
            )
            self._usages.append(self._servers[name, number].usage)
        return self._servers[name, number]
