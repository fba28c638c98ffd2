"""An OpenAI-compatible server on loopback with faults to order, which counts what it was asked and what it answered."""

import json
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def completion(text, finish="stop", prompt_tokens=7, reply_tokens=3):
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": reply_tokens, "total_tokens": 10}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def setup(self):
        super().setup()
        self.server.book.connections.add(self.connection)

    def finish(self):
        self.server.book.connections.discard(self.connection)
        super().finish()

    def do_POST(self):
        book = self.server.book
        raw = self.rfile.read(int(self.headers["content-length"]))
        body = json.loads(raw)
        content = body["messages"][-1]["content"]
        with book.lock:
            book.asked[content] += 1
            book.times.append((time.monotonic(), content))
            book.bodies.append(body)
            book.keys.add(self.headers.get("authorization"))
            book.busy += 1
            book.busiest = max(book.busiest, book.busy)
            attempt = book.asked[content]
        fault = book.relay(raw) if book.relay else book.fault(content, attempt)
        if book.delay:
            time.sleep(book.delay)
        with book.lock:
            book.busy -= 1
            self.close_connection = not book.running
            if book.running:
                self.answer(fault, content)

    def answer(self, fault, content):
        """Send what the fault says: None, a status with headers, a body, or one of the words below."""
        book = self.server.book
        if fault is None:
            book.answered[content] += 1
            self.send(200, json.dumps(completion(f"re: {content}")).encode())
        elif isinstance(fault, tuple):
            status, said, headers = fault
            book.answered[content] += status == 200 and book.relay is not None
            self.send(status, said if isinstance(said, bytes) else json.dumps(said).encode(), headers)
        elif fault == "cut":
            self.send(200, json.dumps(completion("never seen")).encode()[:-20], {}, missing=20)
            self.close_connection = True
        elif fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif fault == "silence":
            book.lock.release()
            book.over.wait(5)
            book.lock.acquire()
            self.close_connection = True

    def send(self, status, content, headers=(), missing=0):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content) + missing))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()


class Faulty:
    """A server that can be stopped and started again on its port.

    `fault(content, attempt)` says how it answers; with `relay(body)` another server's answers are passed on.
    """

    def __init__(self, fault=lambda content, attempt: None, delay=0.0, relay=None):
        self.fault, self.delay, self.relay = fault, delay, relay
        self.asked, self.answered, self.times, self.bodies, self.keys = Counter(), Counter(), [], [], set()
        self.busy = self.busiest = 0
        self.connections = set()
        self.lock, self.over = threading.Lock(), threading.Event()
        self.port = 0
        self.running = False
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self):
        ThreadingHTTPServer.request_queue_size = 64
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.book, self.server.daemon_threads, self.server.block_on_close = self, True, False
        self.port = self.server.server_address[1]
        self.running, self.busy = True, 0
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        """Stop at once: what is on its way is never answered; what was answered has been sent as a whole."""
        with self.lock:
            self.running = False
            self.over.set()
        self.server.shutdown()
        self.server.server_close()
        for connection in [*self.connections]:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.running:
            self.stop()
