import subprocess
import sys
import tracemalloc

import pytest

from raison.records import Fault
from raison.sources import scan

LINE = (
    '{"id":"%d","task":"nli","fields":{"premise":"A man sleeps under a tall tree.","hypothesis":"A man rests."},'
    '"label":"yes","label_set":["yes","no"],"annotations":[{"annotator":"a","label":"yes",'
    '"rationale":{"premise":[[6,12]],"hypothesis":[[6,12]]},"explanation":"who sleeps rests"}]}\n'
)
ROW = '%d,A *man* sleeps.,yes,"because\nso"\n'
MAPPING = ["id=key", "text=text", "rationale=text", "label=label", "explanation=why"]


def records_file(path, count):
    with open(path, "w") as stream:
        stream.writelines(LINE % number for number in range(count))
    return path


def table_file(path, count):
    with open(path, "w") as stream:
        stream.write("key,text,label,why\n")
        stream.writelines(ROW % number for number in range(count))
    return path


def peak(path, mapping):
    """Bytes that reading a file adds at most, while each record is dropped at once."""
    tracemalloc.start()
    try:
        count = sum(not isinstance(item, Fault) for item in scan(path, mapping=mapping))
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("make", "mapping"), [(records_file, None), (table_file, MAPPING)])
def test_memory_does_not_grow_with_the_file(tmp_path, make, mapping):
    peak(make(tmp_path / "warm", 10), mapping)
    _, small = peak(make(tmp_path / "small", 200), mapping)
    count, large = peak(make(tmp_path / "large", 3000), mapping)
    assert count == 3000
    assert large < small + 200_000


def test_faults_do_not_pile_up(tmp_path):
    path = tmp_path / "x.csv"
    with open(path, "w") as stream:
        stream.write("key,text\n")
        stream.writelines(f'{number},"left open\n' if number % 3 else f"{number},fine\n" for number in range(5000))
    count, most = peak(path, ["id=key", "text=text"])
    assert count > 1000
    assert most < 2_000_000


PROGRAM = """
import resource, sys
from raison.sources import scan
from raison.records import Record
def read(path):
    return sum(isinstance(item, Record) for item in scan(path, mapping=sys.argv[3:]))
read(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = read(sys.argv[2])
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("make", "mapping"), [(records_file, []), (table_file, MAPPING)])
def test_a_million_records_in_constant_memory(tmp_path, make, mapping):
    small, large = make(tmp_path / "small", 10_000), make(tmp_path / "large", 1_000_000)
    command = [sys.executable, "-c", PROGRAM, str(small), str(large), *mapping]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, kilobytes = map(int, done.stdout.split())
    assert count == 1_000_000
    assert kilobytes < 10_000
