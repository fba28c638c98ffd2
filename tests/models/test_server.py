"""The server generator against a server that has every fault to order; what it is asked is counted there."""

import asyncio
import json
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faulty_server import Faulty, completion
from raison.models import patience
from raison.models import server as module
from raison.models.chat import Reply
from raison.models.patience import Tries, Trouble, retry_after
from raison.models.server import ServerGenerator, _read
from raison.records import InputError

pytest.importorskip("openai")

KEY = "sk-test-5ecret"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Waits of hundredths of a second, a key, and no proxy between us and ourselves."""
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(patience, "LONGEST_WAIT", 0.1)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def talk(*contents):
    return [[{"role": "system", "content": "s"}, {"role": "user", "content": content}] for content in contents]


def names(count):
    return [f"c{index}" for index in range(count)]


def only(content, *faults):
    """Make the first answers to one content faulty; other contents, and later answers, are fine."""
    return lambda asked, attempt: faults[attempt - 1] if asked == content and attempt <= len(faults) else None


def ask(server, contents, **options):
    generator = ServerGenerator("m", base_url=server.url, **options)
    return generator, generator.generate(talk(*contents))


# ---------------------------------------------------------------------------------------------- good days


def test_replies_keep_the_order_and_each_is_asked_once():
    """Of the four that are asked together after the first one, none is answered before all are there."""
    contents, gate = [*names(30), "c3", "c0"], threading.Barrier(4, timeout=20)

    def together(content, attempt):
        if content in ("c1", "c2", "c3", "c4"):
            gate.wait()

    with Faulty(together, delay=0.01) as server:
        generator, replies = ask(server, contents, concurrency=4, price=(1.0, 10.0), seed=5, extra={"top_p": 0.5})
    assert [reply.text for reply in replies] == [f"re: {content}" for content in contents]
    assert {(reply.finish, reply.failure, reply.prompt_tokens, reply.reply_tokens) for reply in replies} == {
        ("stop", None, 7, 3)
    }
    assert set(server.asked.values()) == {1}
    assert server.busiest == 4
    body = {"model": "m", "max_tokens": 256, "temperature": 0.0, "seed": 5, "top_p": 0.5, "messages": talk("c0")[0]}
    assert server.bodies[0] == body
    assert server.keys == {f"Bearer {KEY}"}
    usage = generator.usage
    assert (usage.conversations, usage.repeated, usage.requests, usage.retries, usage.failed) == (32, 2, 30, 0, 0)
    assert (usage.prompt_tokens, usage.reply_tokens) == (210, 90)
    assert usage.cost == pytest.approx((210 * 1 + 90 * 10) / 1e6)


def test_what_is_none_is_not_sent():
    with Faulty() as server:
        ask(server, ["a"], max_tokens=None, temperature=None, extra={"max_completion_tokens": 9})
    assert server.bodies == [{"model": "m", "messages": talk("a")[0], "max_completion_tokens": 9}]


def test_a_cut_reply_says_so_and_an_uncounted_one_too():
    cut, uncounted = completion("half a", "length"), {**completion("x"), "usage": {"prompt_tokens": "many"}}
    with Faulty(lambda content, _: (200, cut if content == "a" else uncounted, {})) as server:
        generator, (first, second) = ask(server, ["a", "b"], price=(1, 1))
    assert (first.text, first.finish) == ("half a", "length")
    assert (second.text, second.finish, second.prompt_tokens, second.reply_tokens) == ("x", "stop", None, None)
    assert generator.usage.uncounted == 1
    assert generator.usage.cost is None


def test_it_works_inside_an_event_loop(tmp_path):
    with Faulty() as server:

        async def notebook():
            return ask(server, names(5), cache=tmp_path / "replies.db")[1]

        assert [reply.text for reply in asyncio.run(notebook())] == [f"re: c{i}" for i in range(5)]


def test_nothing_to_ask():
    with Faulty() as server:
        assert ask(server, [])[1] == []
    assert not server.asked


# ---------------------------------------------------------------------------------------------- bad days

EMPTY, NOTHING = completion(""), completion(None)
OVERLOADED = {"error": {"message": "overloaded", "code": None}}
STUMBLES = {
    "500": (500, OVERLOADED, {}),
    "500 of a proxy": (500, b"<html>sorry</html>", {"content-type": "text/html"}),
    "408": (408, OVERLOADED, {}),
    "409": (409, OVERLOADED, {}),
    "malformed": (200, b'{"choices": [{"mess', {}),
    "not utf-8": (200, b'{"choices": [{"message": {"content": "\xff"}}]}', {}),
    "not json": (200, b"<html>hello</html>", {}),
    "no choices": (200, {"choices": []}, {}),
    "other shape": (200, {"error": "none"}, {}),
    "other types": (200, {"choices": [{"message": {"content": 3}}]}, {}),
    "a list": (200, [1], {}),
    "null": (200, b"null", {}),
    "empty": (200, EMPTY, {}),
    "no content": (200, NOTHING, {}),
    "nothing at all": (200, b"", {}),
}
AWAYS = {
    "429": (429, OVERLOADED, {}),
    "429 with a wait": (429, OVERLOADED, {"Retry-After": "0.05"}),
    "502": (502, b"", {}),
    "503": (503, OVERLOADED, {"Retry-After": "nonsense"}),
    "504": (504, b"", {}),
    "reset": "reset",
    "cut off": "cut",
}


@pytest.mark.parametrize("fault", [*STUMBLES.values(), *AWAYS.values()], ids=[*STUMBLES, *AWAYS])
@pytest.mark.parametrize("place", ["c0", "c4"])
def test_a_fault_costs_a_retry_and_nothing_else(fault, place):
    with Faulty(only(place, fault, fault)) as server:
        generator, replies = ask(server, names(8))
    assert [reply.text for reply in replies] == [f"re: {content}" for content in names(8)]
    assert server.asked == {**dict.fromkeys(names(8), 1), place: 3}
    assert (generator.usage.retries, generator.usage.requests) == (2, 10)


@pytest.mark.parametrize("fault", STUMBLES.values(), ids=[*STUMBLES])
def test_a_fault_that_stays_fails_its_conversation_alone(fault, tmp_path):
    cache = tmp_path / "replies.db"
    with Faulty(only("c1", *[fault] * 99)) as server:
        generator, replies = ask(server, names(4), retries=3, cache=cache)
        assert [reply.finish for reply in replies] == ["stop", "failed", "stop", "stop"]
        assert replies[1].text is None
        assert replies[1].failure
        assert "\n" not in replies[1].failure
        assert server.asked == {"c0": 1, "c1": 4, "c2": 1, "c3": 1}
        assert generator.usage.failed == 1
        server.fault = lambda *_: None
        assert [reply.text for reply in ask(server, names(4), cache=cache)[1]] == [f"re: {c}" for c in names(4)]
        assert server.asked == {"c0": 1, "c1": 5, "c2": 1, "c3": 1}, "a failure is not kept, a reply is"


def test_a_time_out_is_tried_again_with_twice_the_time():
    with Faulty(only("c1", "silence", "silence")) as server:
        generator, replies = ask(server, names(3), timeout=0.15)
        moments = [moment for moment, content in server.times if content == "c1"]
    assert [reply.text for reply in replies] == [f"re: {content}" for content in names(3)]
    assert generator.usage.retries == 2
    assert moments[1] - moments[0] > 0.1
    assert moments[2] - moments[1] > 0.25


def test_a_time_out_that_stays_fails():
    with Faulty(only("c1", *["silence"] * 9)) as server:
        _, replies = ask(server, names(2), timeout=0.05, retries=1)
    assert replies[0].text == "re: c0"
    assert replies[1].failure == "no reply within 0.1 s"


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (
            (400, {"error": {"message": "it is\n too long"}}, {}),
            "the server answers 400: it is too long",
        ),
        ((422, {"detail": "no such field"}, {}), "the server answers 422: no such field"),
        ((401, {"error": {"message": f"no: {KEY}"}}, {}), "the server answers 401: no: ***"),
        ((404, b"gone", {}), "the server answers 404:"),
        ((200, completion("x", "content_filter"), {}), "the server's content filter held the reply back"),
        ((200, completion("", "length"), {}), "cut before its first word"),
    ],
)
def test_what_no_other_try_would_mend_fails_at_once(fault, failure):
    with Faulty(only("c1", fault)) as server:
        _, replies = ask(server, names(3))
    assert [reply.finish for reply in replies] == ["stop", "failed", "stop"]
    assert replies[1].failure.startswith(failure)
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize(
    "fault",
    [
        (401, {"error": {"message": f"Incorrect API key provided: {KEY}.\nSee the docs."}}, {}),
        (403, b"<html>\nno\n</html>", {}),
        (404, {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}}, {}),
        (400, {"error": {"message": "no such model", "code": "model_not_found"}}, {}),
        (400, {"detail": "Server is pinned to 'a/b'; requested 'm'."}, {}),
        (429, {"error": {"message": "pay first", "code": "insufficient_quota"}}, {"Retry-After": "1"}),
    ],
    ids=lambda fault: str(fault[0]),
)
def test_a_refusal_of_the_very_first_request_is_one_line(fault):
    with Faulty(lambda *_: fault) as server, pytest.raises(InputError) as caught:
        ask(server, names(20))
    message = str(caught.value)
    assert message.startswith(f"m: the server answers {fault[0]}: ")
    assert "\n" not in message
    assert KEY not in message
    assert sum(server.asked.values()) == 1


def test_retry_after_holds_for_all():
    with Faulty(only("c1", (429, OVERLOADED, {"Retry-After": "0.4"})), delay=0.02) as server:
        ask(server, names(12), concurrency=2)
    said = next(moment for moment, content in server.times if content == "c1") + 0.02
    sent = [content for moment, content in server.times if said < moment < said + 0.39]
    assert len(sent) <= 2, "what was on its way; the others, ten in 0.1 s, were held back"
    assert set(server.asked.values()) == {1, 2}


def test_waits_grow_to_a_limit_and_a_time_out_doubles_the_time():
    tries = Tries(60)
    for grown in (0.01, 0.02, 0.04, 0.08, 0.1, 0.1):  # as `quick` sets them
        assert grown / 2 <= tries.wait_after(Trouble("away", "")) <= grown
    assert tries.wait_after(Trouble("away", "", wait=7)) == 7
    assert tries.stumbles == 0
    assert tries.wait_after(Trouble("late", "")) <= 0.01
    assert (tries.timeout, tries.stumbles, tries.away) == (120, 1, 0)


KEYS = st.sampled_from(["choices", "message", "content", "usage", "finish_reason", "prompt_tokens"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["length", "content_filter"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4),
)
CHOICES = st.fixed_dictionaries({"choices": st.lists(st.dictionaries(KEYS, JSON, max_size=3), max_size=2)})


@given(body=st.binary(max_size=40) | (JSON | CHOICES).map(lambda value: json.dumps(value).encode()))
def test_any_body_is_a_reply_or_a_stated_trouble(body):
    found, used = _read(body)
    assert found.text if isinstance(found, Reply) else found.reason
    assert all(value is None or type(value) is int for value in used)


def test_a_body_nested_without_end_is_malformed():
    found, _ = _read(b'{"usage": ' + b"[" * 100_000)
    assert found.kind == "stumble"


def test_retry_after_in_seconds_or_as_a_date():
    assert retry_after({"retry-after": "1.5"}) == 1.5
    assert 8 < retry_after({"retry-after": formatdate(time.time() + 10, usegmt=True)}) <= 10
    for said in ("", "-3", "soon", formatdate(0, usegmt=True), "nan"):
        assert retry_after({"retry-after": said}) == 0
    assert retry_after({}) == 0


def test_who_is_asked_to_wait_longer_than_patience_does_not(tmp_path):
    for status in (429, 500):
        fault = (status, OVERLOADED, {"Retry-After": "inf"})
        with Faulty(only("c1", *[fault] * 9)) as server:
            _, replies = ask(server, names(3), patience=5)
        assert [reply.finish for reply in replies] == ["stop", "failed", "stop"]
        assert replies[1].failure == f"the server answers {status}: overloaded"


# ------------------------------------------------------------------------------------------- limits, keys


def test_requests_are_paced():
    begun = time.monotonic()
    with Faulty() as server:
        ask(server, names(5), requests_per_minute=60 / 0.06)
    assert len(server.times) == 5
    assert all(moment - begun >= 0.06 * index for index, (moment, _) in enumerate(server.times))


def test_tokens_are_paced_by_what_was_used():
    """Ten tokens each at 6,000 a minute: a request in 0.1 s, although 256 were guessed for the reply (2.56 s)."""
    begun = time.monotonic()
    with Faulty() as server:
        ask(server, names(5), tokens_per_minute=6000, concurrency=1)
    assert all(moment - begun >= 0.1 * index for index, (moment, _) in enumerate(server.times))
    assert server.times[-1][0] - begun < 2.5


def test_keys_come_from_the_environment_and_go_nowhere_else(monkeypatch, tmp_path, caplog, capsys):
    cache = tmp_path / "replies.db"
    monkeypatch.setenv("OTHER_KEY", "other-5ecret\n")
    with Faulty() as server:
        generator, _ = ask(server, ["a"], cache=cache, key_variable="OTHER_KEY")
        assert server.keys == {"Bearer other-5ecret"}
        said = (repr(vars(generator)), str(generator.usage), caplog.text, *capsys.readouterr())
        for written in (cache.read_bytes(), *said):
            assert "5ecret" not in str(written)
        server.keys.clear()
        ask(server, ["b"], key_variable="NO_SUCH_KEY")
        assert KEY not in str(server.keys)
    with pytest.raises(InputError, match="NO_SUCH_KEY is not set"):
        ServerGenerator("m", key_variable="NO_SUCH_KEY")
    monkeypatch.setenv("OTHER_KEY", "a\nb-5ecret")
    with pytest.raises(InputError, match="OTHER_KEY holds characters") as caught:
        ServerGenerator("m", key_variable="OTHER_KEY")
    assert "5ecret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "http://", "http://[::1", "http://h:99999/v1", "file:///v1"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="address of the server is malformed; expected one such as http"):
        ServerGenerator("m", base_url=url)


def test_without_the_client_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install 'raison\[api\]'"):
        ServerGenerator("m")


def test_the_cache_tells_requests_apart(tmp_path):
    options = {"cache": tmp_path / "replies.db", "seed": 1}
    with Faulty() as server:
        ask(server, ["a"], **options)
        ask(server, ["a"], **options, name="other", concurrency=1, timeout=9, temperature=0)
        assert server.asked["a"] == 1
        for change in ({"seed": 2}, {"temperature": 0.5}, {"max_tokens": 9}, {"extra": {"top_p": 0.5}}):
            ask(server, ["a"], **{**options, **change})
        assert server.asked["a"] == 5
        with Faulty() as second:
            ask(second, ["a"], **options)
        assert second.asked["a"] == 1


# -------------------------------------------------------------------------------------- stops and starts


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.005)


def test_a_server_that_stops_and_starts_again_costs_only_time(tmp_path):
    contents, cache = names(80), tmp_path / "replies.db"
    found = []
    with Faulty(delay=0.02) as server:
        run = threading.Thread(target=lambda: found.extend(ask(server, contents, concurrency=5, cache=cache)[1]))
        run.start()
        for answered in (15, 40):
            wait_until(lambda n=answered: sum(server.answered.values()) >= n and server.busy >= 2)
            server.stop()
            time.sleep(0.3)
            server.start()
        run.join(30)
        lost = sum(server.asked.values()) - sum(server.answered.values())
        assert [reply.text for reply in found] == [f"re: {content}" for content in contents]
        assert server.answered == dict.fromkeys(contents, 1), "nothing that was answered is asked again"
        assert 0 < lost <= 10, "what was on its way, five requests each time"
        ask(server, contents, cache=cache)
        assert sum(server.answered.values()) == len(contents)


def test_a_server_that_is_not_there_yet_is_waited_for():
    server = Faulty()
    server.stop()
    found = []
    run = threading.Thread(target=lambda: found.extend(ask(server, names(3))[1]))
    run.start()
    time.sleep(0.2)
    with server:
        server.start()
        run.join(10)
    assert [reply.text for reply in found] == [f"re: {content}" for content in names(3)]


def test_a_server_that_stays_away_fails_the_rest_at_once_and_says_so(tmp_path, caplog):
    cache, contents = tmp_path / "replies.db", names(200)
    server = Faulty(delay=0.01)
    found = []
    options = {"concurrency": 4, "patience": 0.6, "cache": cache}
    run = threading.Thread(target=lambda: found.extend(ask(server, contents, **options)[1]))
    with caplog.at_level(logging.WARNING, module.__name__):
        run.start()
        wait_until(lambda: sum(server.answered.values()) >= 20)
        server.stop()
        begun = time.monotonic()
        run.join(10)
    assert time.monotonic() - begun < 3
    done = [reply for reply in found if reply.finish == "stop"]
    assert len(done) == sum(server.answered.values())
    failures = {reply.failure for reply in found if reply.finish == "failed"}
    assert all("no connection" in failure for failure in failures)
    assert any(failure.startswith("given up: the server was away") for failure in failures)
    assert [line.message.count("trying on for up to 0.6 s") for line in caplog.records] == [1]
    with server:
        server.start()
        assert all(reply.finish == "stop" for reply in ask(server, contents, cache=cache)[1])
    assert server.answered == dict.fromkeys(contents, 1)


CLIENT = """
import sys
from raison.models.server import ServerGenerator
url, cache, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
asked = [[{"role": "user", "content": f"c{index}"}] for index in range(count)]
ServerGenerator("m", base_url=url, cache=cache, concurrency=4).generate(asked)
"""


def test_a_client_that_is_killed_asks_nothing_twice_that_it_had_kept(tmp_path):
    cache, count = tmp_path / "replies.db", 120
    with Faulty(delay=0.02) as server:
        for goal in (20, 60):
            client = subprocess.Popen([sys.executable, "-c", CLIENT, server.url, cache, str(count)])
            wait_until(lambda n=goal: sum(server.answered.values()) >= n, seconds=60)
            os.kill(client.pid, signal.SIGKILL)
            assert client.wait() == -signal.SIGKILL
        time.sleep(0.1)
        with sqlite3.connect(cache) as connection:
            kept = connection.execute("SELECT count(*) FROM replies").fetchone()[0]
        before = sum(server.asked.values())
        assert before - 2 * 4 <= kept <= before, "all but what was on its way"
        asked = [[{"role": "user", "content": content}] for content in names(count)]
        generator = ServerGenerator("m", base_url=server.url, cache=cache)
        assert [reply.text for reply in generator.generate(asked)] == [f"re: {content}" for content in names(count)]
        assert generator.usage.cached == kept
        assert sum(server.asked.values()) - before == count - kept
        assert generator.usage.requests == count - kept


def test_a_wrong_address_fails_after_patience():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    generator = ServerGenerator("m", base_url=f"http://127.0.0.1:{port}/v1", patience=0.1)
    replies = generator.generate(talk(*names(3)))
    assert {reply.finish for reply in replies} == {"failed"}
    assert all("no connection: ConnectError" in reply.failure for reply in replies)
