"""Replies on disk: asked once, kept when a process ends, shared by processes, never another's file."""

import multiprocessing
import sqlite3

import pytest

from raison.models.cache import Usage, ask_once, content_hash
from raison.models.chat import Reply, failed
from raison.records import InputError


class Model:
    """Answers a key with itself, and writes down what it was asked."""

    def __init__(self, keys, failing=()):
        self.keys, self.failing, self.asked, self.usage = keys, failing, [], Usage()

    def ask(self, places, keep):
        for place in places:
            key = self.keys[place]
            self.asked.append(key)
            keep(place, failed("no") if key in self.failing else Reply(f"«{key}»", "stop", None, 1, 2))

    def replies(self, path=None):
        return [reply.text for reply in ask_once(self.keys, self.ask, usage=self.usage, path=path)]


def test_the_same_is_asked_once_and_replies_keep_the_order(tmp_path):
    model = Model(["b", "a", "b", "c", "b"])
    assert model.replies() == ["«b»", "«a»", "«b»", "«c»", "«b»"]
    assert model.asked == ["b", "a", "c"]
    assert (model.usage.conversations, model.usage.repeated, model.usage.cached) == (5, 2, 0)
    assert Model([]).replies(tmp_path / "replies.db") == []


def test_a_rerun_asks_only_what_failed_and_what_is_new(tmp_path):
    path = tmp_path / "replies.db"
    first = Model(["a", "b", "c", "b"], failing="b")
    assert first.replies(path) == ["«a»", None, "«c»", None]
    assert first.usage.failed == 1
    again = Model(["d", "c", "b", "a"])
    assert again.replies(path) == ["«d»", "«c»", "«b»", "«a»"]
    assert again.asked == ["d", "b"]
    assert again.usage.cached == 2


def test_a_reply_is_on_the_disk_before_the_next_is_asked(tmp_path):
    path = tmp_path / "replies.db"
    seen = []

    def ask(places, keep):
        for place in places:
            if not path.exists():  # made for the first reply
                seen.append(0)
                keep(place, Reply("x", "stop"))
                continue
            with sqlite3.connect(path) as other:
                seen.append(other.execute("SELECT count(*) FROM replies").fetchone()[0])
            keep(place, Reply("x", "stop"))
        raise RuntimeError("the process ends here")

    with pytest.raises(RuntimeError, match="ends here"):
        ask_once(["a", "b", "c"], ask, usage=Usage(), path=path)
    assert seen == [0, 1, 2]
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_reply_comes_back_as_it_was(tmp_path):
    path, reply = tmp_path / "replies.db", Reply(' “naïve”\n\0 😀 {"', "length", None, None, 7)
    for _ in range(2):
        assert ask_once(["k"], lambda _, keep: keep(0, reply), usage=Usage(), path=path) == [reply]


def test_a_hash_is_of_the_content():
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
    assert len({content_hash(value) for value in ("a", ["a"], [["a"]], {"a": 1}, {"a": "1"}, None)}) == 6


def _share(path, keys):
    Model(keys).replies(path)


def test_processes_may_share_a_file_from_its_making_on(tmp_path):
    path = tmp_path / "replies.db"
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=_share, args=(path, [f"{job}.{i}" for i in range(20)])) for job in range(4)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert [job.exitcode for job in jobs] == [0] * 4
    model = Model([f"{job}.{i}" for job in range(4) for i in range(20)])
    assert model.replies(path)[-1] == "«3.19»"
    assert model.asked == []


def test_what_is_no_cache_is_refused_in_one_line_and_left_alone(tmp_path):
    text, other, made = tmp_path / "text", tmp_path / "other.db", tmp_path / "cache.db"
    text.write_text("not a database " * 99)
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE bookmarks (url)")
    Model(["a"]).replies(made)
    with sqlite3.connect(made) as connection:
        connection.execute("UPDATE replies SET reply = '[]'")
    before = other.read_bytes()
    for path in (text, other, made, tmp_path, tmp_path / "nowhere" / "cache.db"):
        with pytest.raises(InputError, match=r"cache of replies") as caught:
            Model(["a"]).replies(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(path))
    assert other.read_bytes() == before


def test_usage_counts_and_costs():
    """Two answers of 1,000 + 100 and 500 + 50 tokens at 2 and 10 a million: 0.003 + 0.0015."""
    usage = Usage(price=(2, 10))
    usage.count(1000, 100)
    usage.count(500, 50)
    assert (usage.prompt_tokens, usage.reply_tokens) == (1500, 150)
    assert usage.cost == pytest.approx(0.0045)
    assert "cost 0.0045" in str(usage)
    usage.count(None, None)
    assert usage.cost is None, "one answer was not counted: the cost is not known"
    assert "1 answers uncounted" in str(usage)
    assert Usage().cost is None
