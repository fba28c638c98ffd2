"""The server generator against a real server: `transformers serve` with a tiny model, killed and started in mid-run."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from faulty_server import Faulty
from raison.models.generator import LocalGenerator
from raison.models.server import ServerGenerator
from raison.records import InputError

pytest.importorskip("openai")
pytest.importorskip("fastapi", reason="transformers serve needs transformers[serving]")
pytest.importorskip("uvicorn", reason="transformers serve needs transformers[serving]")

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SUBJECTS, VERBS = ("a man", "the dog", "a happy woman", "café", "unbelievably"), ("plays", "sleeps", "reads", "is red")
TEXTS = [f"{subject} {verb} in the park" for subject in SUBJECTS for verb in VERBS]
TALKS = [[{"role": "system", "content": "Say why."}, {"role": "user", "content": text}] for text in TEXTS]
ROOM = 24


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """A Llama-shaped model with random weights and a chat template."""
    tokenizer = tiny.byte_tokenizer("llama")
    tokenizer.chat_template = TEMPLATE
    wide = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    special = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    torch.manual_seed(0)
    common = {"vocab_size": len(tokenizer), "initializer_range": 0.3, "max_position_embeddings": 256}
    config = LlamaConfig(**common, **wide, **special)
    path = tmp_path_factory.mktemp("served") / "model"
    AutoModelForCausalLM.from_config(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def start(folder, port, log):
    """Start `transformers serve`; it answers some seconds later."""
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def wait_until(condition, seconds, log):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, Path(log.name).read_text()
        time.sleep(0.01)


@contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def relay_to(port):
    """Pass requests on to a port, and its answers back; where nobody answers, break the connection."""

    def relay(raw):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", "/v1/chat/completions", raw, {"content-type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read(), {}
        except (OSError, http.client.HTTPException):
            return "reset"
        finally:
            connection.close()

    return relay


@pytest.mark.slow
def test_a_real_server_is_killed_and_started_in_mid_run(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    port, found = free_port(), []
    cache = tmp_path / "replies.db"
    with (tmp_path / "server.log").open("w") as log, Faulty(relay=relay_to(port)) as counter:
        generator = ServerGenerator(
            str(folder), base_url=counter.url, max_tokens=ROOM, concurrency=3, cache=cache, key_variable="NO_SUCH_KEY"
        )
        run = threading.Thread(target=lambda: found.extend(generator.generate(TALKS)))
        run.start()  # the server is not even there
        with ended(start(folder, port, log)) as first:
            wait_until(lambda: sum(counter.answered.values()) >= 7, 120, log)
            first.send_signal(signal.SIGKILL)
            first.wait(30)
        before = dict(counter.answered)
        assert 7 <= len(before) < len(TALKS), "it was killed in mid-run"
        time.sleep(1)
        with ended(start(folder, port, log)):
            run.join(180)
            assert {reply.finish for reply in found} <= {"stop", "length"}
            assert counter.answered == dict.fromkeys(TEXTS, 1), "none was lost, none was answered twice"
            assert sum(counter.asked.values()) == generator.usage.requests == len(TALKS) + generator.usage.retries
            asked = counter.asked.copy()
            again = ServerGenerator(str(folder), base_url=counter.url, max_tokens=ROOM, cache=cache)
            assert again.generate(TALKS[::-1]) == found[::-1]
            assert counter.asked == asked, "a rerun asks nothing"
            direct = ServerGenerator(str(folder), base_url=f"http://127.0.0.1:{port}/v1", max_tokens=ROOM)
            assert direct.generate(TALKS[:3]) == found[:3]
            with pytest.raises(InputError, match=r"nobody/nothing: the server answers 4\d\d: .*nobody/nothing"):
                ServerGenerator("nobody/nothing", base_url=counter.url).generate(TALKS)
    local = LocalGenerator.load(folder, device="cpu", max_new_tokens=ROOM).generate(TALKS)
    assert [reply.prompt_tokens for reply in local] == [reply.prompt_tokens for reply in found]
    assert [reply.reply_tokens for reply in local] == [reply.reply_tokens for reply in found]
    assert [reply.text for reply in local] == [reply.text for reply in found]
