"""Attribution: our time beside the floor's and the peers', in paired runs, and memory.

    python benchmarks/attribution.py --threads 1 --json attribution.json \
        --peer-python ferret=/path/to/ferret/bin/python --peer-python interpreto=/path/to/python

What is compared and what a row says is in `benchmarks/README.md`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import common
import memory
import peers
from common import Arrays
from raison.attribution import extract
from raison.models import Classifier
from raison.records import Record

HERE = Path(__file__).parent
METHODS = ("gradient", "input_x_gradient", "integrated_gradients", "occlusion")
Row = dict[str, Any]


class Ours:
    """Our side: the one call that a user makes, on texts, with everything that it does around the arithmetic."""

    def __init__(self, folder: Path) -> None:
        model, tokenizer, texts = common.load(folder)
        self.model = Classifier(model, tokenizer, labels=common.LABELS)
        pairs = [Record(str(i), {"premise": a, "hypothesis": b}) for i, (a, b) in enumerate(texts.pairs)]
        singles = [Record(str(i), {"text": text}) for i, text in enumerate(texts.singles)]
        self.records = {"pairs": pairs, "singles": singles, "long": [Record("long", {"text": texts.long})]}

    def call(self, method: str, data: str, **options: Any) -> Callable[[], Arrays]:
        """Give the call of one method on all records of `pairs`, `singles` or `long`; its result: scores of words."""
        target = common.LABELS[common.TARGET]

        def run() -> Arrays:
            found = extract(self.model, self.records[data], method, target=target, **options)
            return [np.concatenate(list(row.scores.values())) for row in found]

        return run


def compare(ours: Ours, calls: list[Row], ask: Callable[..., Any], options: argparse.Namespace) -> list[Row]:
    """Time each call of one peer beside ours."""
    rows: list[Row] = []
    for index, call in enumerate(calls):
        if call["method"] not in options.methods:
            continue
        same_as = call["same_as"] or ({"unit": "token"} if call["method"] == "occlusion" else {})

        def peer(index: int = index) -> tuple[float, Any]:
            return ask(do="run", index=index)["seconds"], None

        timed = common.paired(ours.call(call["method"], call["data"], **same_as), peer, options.rounds)
        scores = ask(do="scores", index=index)["scores"]
        apart = None if scores is None else common.difference(timed.ours, [np.array(row) for row in scores])
        name = f"{call['peer']}, {call['setting']}" + (f" ({call['note']})" if call["note"] else "")
        case = f"{call['method']}, {len(timed.ours)} {'pairs' if call['data'] == 'pairs' else 'texts'}"
        row = {**common.row(case, name, timed, apart), "setting": "best" if call["best"] else "default"}
        rows.append(row)
        common.show(rows[-1:], ("case", "peer", "ours_s", "peer_s", "ratio", "max_abs_diff"))
    return rows


def in_this_process(peer: str, folder: Path) -> Callable[..., Any]:
    """Answer as a worker does, without one."""
    calls = peers.PEERS[peer][1](peers.Setup(folder))
    last: list[Any] = [None]

    def ask(do: str, index: int = 0, **_: Any) -> dict[str, Any]:
        if do == "calls":
            return {"calls": [call._asdict() for call in calls]}
        if do == "run":
            took, last[0] = common.seconds(calls[index].run)
            return {"seconds": took}
        return {"scores": None if calls[index].same_as is None else calls[index].finish(last[0])}

    return ask


def all_peers(ours: Ours, folder: Path, options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Go through the peers; those that can't be imported are named, with the reason."""
    rows: list[Row] = []
    skipped: list[str] = []
    for peer in options.peers:
        python = options.python.get(peer)
        worker = common.Worker(python, HERE / "peers.py", folder, options.threads) if python else None
        if not worker and not peers.importable(peer):
            skipped.append(f"{peer}: not importable here; give --peer-python {peer}=/path/to/python")
            continue
        try:
            ask = (
                (lambda w=worker, p=peer, **request: w.ask(peer=p, **request))
                if worker
                else in_this_process(peer, folder)
            )
            rows += compare(ours, ask(do="calls")["calls"], ask, options)
        except RuntimeError as error:
            skipped.append(f"{peer}: {error}")
        finally:
            if worker:
                worker.close()
    return rows, skipped


def adaptive(ours: Ours, rounds: int) -> list[Row]:
    """Adaptive steps beside 50 fixed ones; Spearman's rank correlation of each record's words, the lowest and mean."""
    from scipy.stats import spearmanr

    rows: list[Row] = []
    for data in ("pairs", "singles", "long"):
        auto, fixed = (ours.call("integrated_gradients", data, steps=steps) for steps in ("auto", 50))
        timed = common.paired(auto, lambda fixed=fixed: common.seconds(fixed), rounds)
        ranks = [float(spearmanr(a, b).statistic) for a, b in zip(timed.ours, timed.peer, strict=True)]
        row = common.row(f"integrated_gradients, {data}, adaptive steps", "ours, 50 steps", timed, None)
        apart = common.difference(timed.ours, timed.peer)
        rows.append({**row, "max_abs_diff": apart, "rank_min": min(ranks), "rank_mean": float(np.mean(ranks))})
    common.show(rows, ("case", "peer", "ours_s", "peer_s", "ratio", "max_abs_diff", "rank_min", "rank_mean"))
    return rows


def peaks(folder: Path, options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """Memory: each in a fresh process, three times, the median."""
    found: dict[str, Row] = {}
    skipped: list[str] = []
    if not Path("/proc/self/clear_refs").exists():
        return [], ["memory: this system does not tell a process its peak"]
    for who in memory.WHO:
        peer = who.split(",")[0]
        python = options.python.get(peer, sys.executable)
        if peer in peers.PEERS and peer not in options.python and not peers.importable(peer):
            skipped.append(f"memory of {peer}: not importable here")
            continue
        runs: list[Row] = []
        for _ in range(3):
            command = [python, str(HERE / "memory.py"), str(folder), who, str(options.threads)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = [json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("@@")]
            runs += lines
        if not runs:
            skipped.append(f"memory of {who}: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}")
            continue
        found[who] = {name: float(np.median([run[name] for run in runs])) for name in ("mb", "seconds")}
    ours = found["ours"]
    rows = [
        {
            "case": "integrated_gradients, 500 tokens, memory",
            "peer": who,
            "ours_s": ours["seconds"],
            "peer_s": row["seconds"],
            "ratio": row["seconds"] / ours["seconds"],
            "max_abs_diff": None,
            "ours_mb": ours["mb"],
            "peer_mb": row["mb"],
        }
        for who, row in found.items()
    ]
    common.show(rows, ("case", "peer", "ours_s", "peer_s", "ratio", "ours_mb", "peer_mb"))
    return rows, skipped


def verdicts(rows: list[Row]) -> list[str]:
    """Say for each aim whether these numbers hold it: acceptance 5 (a) to (c) of the first issue."""
    timed = [row for row in rows if "setting" in row]
    floors = {row["case"]: round(1 / row["ratio"], 3) for row in timed if row["peer"].startswith("floor")}
    best: dict[str, float] = {}
    for row in timed:
        if not row["peer"].startswith("floor"):
            best[row["case"]] = min(best.get(row["case"], np.inf), row["ratio"])
    plain = [
        f"{row['case']}, {row['peer'].split(' (')[0]}: {row['ratio']:.2f}"
        for row in timed
        if row["setting"] == "default" and row["case"].split(",")[0] in ("gradient", "occlusion")
    ]
    steps = [f"{row['ratio']:.1f} at {row['rank_min']:.5f}" for row in rows if "rank_min" in row]
    mine = [f"{row['peer_mb']:.0f} MB" for row in rows if row.get("peer", "").startswith("ours") and "peer_mb" in row]
    return [
        f"(a) ours over the floor, at most 1.15: {floors}",
        f"(a) fastest setting of any peer over ours, at least 1: { {case: round(x, 2) for case, x in best.items()} }",
        f"(b) peers' defaults over ours, at least 1.5: {'; '.join(plain)}",
        f"(c) memory, at most 250 MB (50 steps, adaptive): {', '.join(mine) or 'not measured'}",
        f"(c) 50 steps over adaptive, at least 3, and lowest rank agreement, at least .9999: {', '.join(steps)}",
    ]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5, help="paired runs of each row")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--peers", nargs="*", default=list(peers.PEERS), choices=list(peers.PEERS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="PEER=PYTHON", help="an interpreter for a peer"
    )
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    options.python = dict(pair.split("=", 1) for pair in options.peer_python)
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        common.make(folder, options.items)
        ours = Ours(folder)
        sizes = [len(row.ids) for row in ours.model.encode(ours.records["pairs"])]
        print(
            f"{len(sizes)} pairs of {np.mean(sizes):.1f} tokens on average, {options.threads} threads, "
            f"torch {torch.__version__}"
        )
        rows, skipped = all_peers(ours, folder, options)
        rows += adaptive(ours, max(1, options.rounds // 2)) if "integrated_gradients" in options.methods else []
        if not options.no_memory:
            more, missing = peaks(folder, options)
            rows, skipped = rows + more, skipped + missing
    print(*verdicts(rows), *(f"skipped: {line}" for line in skipped), sep="\n")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
