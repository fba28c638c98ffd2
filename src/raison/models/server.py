"""Replies of any OpenAI-compatible chat-completions server, through its bad days: the `openai` client and patience."""

import asyncio
import logging
import os
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import msgspec

from raison.models.cache import Keep, Usage, ask_once, content_hash
from raison.models.chat import Conversation, Reply, failed
from raison.models.patience import Pace, Tries, Trouble, retry_after
from raison.records import InputError

CONNECT = 10.0  # seconds to reach the server; longer is taken for being away
WARN_AFTER = 4  # tries in a row that found the server away
AWAY = (429, 502, 503, 504)
REFUSED = (401, 403, 404)
HOPELESS = ("insufficient_quota", "invalid_api_key", "model_not_found")  # codes of errors that no other try will mend
GIVEN_UP = "given up"  # how the failure begins of a conversation that waited for a server for too long
CHARACTERS = 4  # of a token, where tokens must be guessed before a request is sent

log = logging.getLogger(__name__)


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None


class ServerGenerator:
    """A model behind an OpenAI-compatible server.

    What goes wrong is tried again, with waits that grow. While the server is away (no connection, or one that breaks;
    429, 502, 503, 504) this goes on until `patience` is over: a server may be stopped and started again at the cost of
    time alone. A time-out, another 5xx, 408, 409 and a malformed or empty reply are tried again `retries` times. Any
    other 4xx fails its conversation, with the server's reason; but 401, 403, 404, an unknown model or a spent quota at
    the very first request are the caller's to mend. Where the server was away for all of `patience`, the conversations
    that are left fail at once, and a later run with the same cache asks only for them.

    Args:
        model: what the server calls the model.
        base_url: such as "http://localhost:8000/v1"; default: the variable OPENAI_BASE_URL, else OpenAI's.
        key_variable: the environment variable with the key. It may be unset where `base_url` is given.
        name: what results call the model; default: `model`.
        max_tokens: a reply is cut there. None is not sent: some models want `extra={"max_completion_tokens": 256}`.
        temperature: 0 asks for the most probable tokens; None is not sent.
        seed: sent where it is given; with another one the same conversation is asked again.
        extra: further fields of the request.
        concurrency: requests on their way at the same time.
        retries: see above.
        patience: seconds.
        timeout: seconds that a reply may take; each time-out of a conversation doubles its own.
        requests_per_minute: a limit kept to.
        tokens_per_minute: the same for prompt and reply tokens, guessed before a request and put right after it.
        price: of a million prompt tokens and of a million reply tokens, in any currency.
        cache: a file that keeps replies by the hash of the whole request and the server's address, see `ask_once`.

    Attributes:
        usage: what was asked, how many tokens it took, and what it cost.

    Raises:
        InputError: the package openai is not installed, there is no key, or `base_url` is no address.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        name: str | None = None,
        max_tokens: int | None = 256,
        temperature: float | None = 0.0,
        seed: int | None = None,
        extra: Mapping[str, Any] | None = None,
        concurrency: int = 8,
        retries: int = 6,
        patience: float = 600,
        timeout: float = 60,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        price: tuple[float, float] | None = None,
        cache: str | Path | None = None,
    ) -> None:
        try:
            import openai
        except ImportError:
            raise InputError("a server needs the package openai: pip install 'raison[api]'") from None
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL")
        if self.base_url and not _is_address(self.base_url):
            raise InputError("the address of the server is malformed; expected one such as http://localhost:8000/v1")
        if not _key(key_variable) and not self.base_url:
            raise InputError(f"the environment variable {key_variable} is not set; it holds the key of the server")
        if concurrency < 1 or retries < 0 or patience < 0 or timeout <= 0:
            raise ValueError("expected concurrency >= 1, retries >= 0, patience >= 0 and timeout > 0")
        self.openai = openai
        self.model = model
        self.name = name or model
        self.key_variable = key_variable
        self.max_tokens = max_tokens
        warmth = None if temperature is None else float(temperature)  # 0 and 0.0 are one request
        fixed = {"max_tokens": max_tokens, "temperature": warmth, "seed": seed}
        self.parameters = {**{key: value for key, value in fixed.items() if value is not None}, **(extra or {})}
        self.concurrency = concurrency
        self.retries = retries
        self.patience = patience
        self.timeout = timeout
        self.requests_per_minute = requests_per_minute
        self.tokens_per_minute = tokens_per_minute
        self.cache = cache
        self.usage = Usage(price=price)

    def generate(self, conversations: Sequence[Conversation], progress: str | None = None) -> list[Reply]:
        """Give one reply for each conversation, in their order; the same conversation is asked once.

        Raises:
            InputError: the server refuses the very first request (no such model, wrong key or address), or the cache
                can't be used.
        """
        server = (self.base_url or "").rstrip("/")
        messages = [[dict(message) for message in conversation] for conversation in conversations]
        keys = [content_hash([server, self.model, self.parameters, row]) for row in messages]

        def ask(places: list[int], keep: Keep) -> None:
            _complete(_Visit(self).all([(place, messages[place]) for place in places], keep))

        return ask_once(keys, ask, usage=self.usage, path=self.cache, progress=progress)


class _Visit:
    """One call of `generate`: its connections, and what is known of how the server fares."""

    def __init__(self, settings: ServerGenerator) -> None:
        self.settings = settings
        self.key = _key(settings.key_variable)
        self.ended: str | None = None  # why nothing more is asked
        self.answered = 0.0  # when the server last answered anything
        self.warned = False
        self.requests = Pace(settings.requests_per_minute)
        self.tokens = Pace(settings.tokens_per_minute)
        self.client: Any = None

    async def all(self, conversations: Sequence[tuple[int, list[dict[str, str]]]], keep: Keep) -> None:
        """Ask the first conversation alone, since it shows whether the server will have us; then all others at once."""
        openai, timeout = self.settings.openai, self.settings.timeout
        self.client = openai.AsyncOpenAI(
            api_key=self.key or "none",
            base_url=self.settings.base_url,
            max_retries=0,
            timeout=openai.Timeout(None, connect=min(CONNECT, timeout)),
        )
        waiting = iter(conversations)

        async def work() -> None:
            for place, messages in waiting:
                keep(place, await self.reply(messages))

        async with self.client:
            place, messages = next(waiting)
            keep(place, await self.reply(messages, first=True))
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(self.settings.concurrency, len(conversations) - 1)):
                        group.create_task(work())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None

    async def reply(self, messages: list[dict[str, str]], first: bool = False) -> Reply:
        """Ask until there is a reply or no hope of one."""
        tries = Tries(self.settings.timeout)
        while not self.ended:
            try:
                return await self.once(messages, tries)
            except Trouble as trouble:
                if first and trouble.kind == "refused":
                    raise InputError(f"{self.settings.name}: {trouble.reason}") from None
                wait = tries.wait_after(trouble)
                if self.given_up(trouble, tries, wait):
                    return failed(trouble.reason)
            await asyncio.sleep(wait)
        return failed(self.ended)

    def given_up(self, trouble: Trouble, tries: Tries, wait: float) -> bool:
        """Say whether a conversation is not to be tried again; and end the visit where no other can be answered."""
        patience = self.settings.patience
        if trouble.kind in ("late", "stumble"):
            return tries.stumbles > self.settings.retries or wait > patience
        if trouble.kind != "away":
            return True
        if tries.away >= WARN_AFTER and not self.warned:
            log.warning("%s: %s; trying on for up to %g s", self.settings.name, trouble.reason, patience)
            self.warned = True
        if monotonic() + wait - tries.away_since < patience:
            self.requests.close(trouble.wait)
            return False
        if self.answered < tries.away_since:
            self.ended = f"{GIVEN_UP}: the server was away ({trouble.reason})"
        return True

    async def once(self, messages: list[dict[str, str]], tries: Tries) -> Reply:
        """Send a request and read what comes back."""
        guess = sum(len(message["content"]) for message in messages) // CHARACTERS + (self.settings.max_tokens or 0)
        await self.requests.turn(1)
        await self.tokens.turn(guess)
        self.settings.usage.requests += 1
        self.settings.usage.retries += tries.away + tries.stumbles > 0
        body = await self.send(messages, tries.timeout)
        self.answered, self.warned = monotonic(), False
        reply, used = _read(body)
        self.settings.usage.count(used.prompt, used.reply)
        if used.prompt is not None and used.reply is not None:
            self.tokens.correct(used.prompt + used.reply - guess)
        if isinstance(reply, Trouble):
            raise reply
        return reply

    async def send(self, messages: list[dict[str, str]], timeout: float) -> bytes:
        """Give the body of the server's answer, or say what is wrong with it."""
        openai, settings = self.settings.openai, self.settings
        try:
            async with asyncio.timeout(timeout):
                raw = await self.client.chat.completions.with_raw_response.create(
                    model=settings.model, messages=cast(Any, messages), extra_body=settings.parameters
                )
                return raw.http_response.content
        except TimeoutError:
            raise Trouble("late", f"no reply within {timeout:g} s") from None
        except openai.APIStatusError as error:
            raise self.status(error) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            raise Trouble("away", self.hidden(f"no connection: {type(cause).__name__} {cause}".strip())) from None

    def status(self, error: Any) -> Trouble:
        """Say what a status of 4xx or 5xx means."""
        status, body = int(error.status_code), error.body
        said = body.get("message") or body.get("detail") or body if isinstance(body, dict) else error.message
        reason = self.hidden(f"the server answers {status}: {said}")
        wait = retry_after(error.response.headers)
        unknown = status == 400 and any(f"{quote}{self.settings.model}{quote}" in reason for quote in "'`\"")
        if status in REFUSED or error.code in HOPELESS or unknown:
            return Trouble("refused", reason)
        if status in AWAY:
            return Trouble("away", reason, wait)
        self.answered, self.warned = monotonic(), False
        return Trouble("stumble" if status >= 500 or status in (408, 409) else "final", reason, wait)

    def hidden(self, text: str) -> str:
        """Make a server's words one line, without the key, which some servers repeat."""
        line = " ".join(text.split())
        return (line.replace(self.key, "***") if self.key else line)[:300]


class _Used(NamedTuple):
    """The tokens of an answer, as far as the server says."""

    prompt: int | None
    reply: int | None

    @classmethod
    def of(cls, usage: Any) -> "_Used":
        """Read a completion's `usage`, whatever it is."""
        counts: dict[str, Any] = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
        found = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
        return cls(*(value if type(value) is int else None for value in found))


def _read(body: bytes) -> tuple[Reply | Trouble, _Used]:
    """Read a reply out of the body of an answer."""
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Trouble("stumble", f"malformed reply: {error}"), _Used(None, None)
    used = _Used.of(completion.usage)
    if not completion.choices:
        return Trouble("stumble", "malformed reply: no choices"), used
    choice = completion.choices[0]
    text = choice.message.content or choice.message.refusal
    if choice.finish_reason == "content_filter":
        return Trouble("final", "the server's content filter held the reply back"), used
    if not text:
        cut = choice.finish_reason == "length"  # all tokens went into thoughts: so they would another time
        return Trouble("final" if cut else "stumble", "cut before its first word" if cut else "empty reply"), used
    finish = "length" if choice.finish_reason == "length" else "stop"
    return Reply(text, finish, None, used.prompt, used.reply), used


def _key(variable: str) -> str:
    """Read a key; refuse one that can't be sent, before anybody reports it with the key in the message."""
    key = os.environ.get(variable, "").strip()
    if not key.isascii() or not key.isprintable():
        raise InputError(f"the environment variable {variable} holds characters that no key has")
    return key


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _complete(work: Coroutine[Any, Any, None]) -> None:
    """Run asynchronous work to its end; from inside an event loop (a notebook's) in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work)
        return
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, work).result()
