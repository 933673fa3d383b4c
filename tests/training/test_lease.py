"""Leases: of several processes one holds a folder, whatever becomes of the others."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import storage
from research.training import lease, record

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from research.training import lease
lease.BEAT = 0.2
held = lease.take(sys.argv[1])
print(held.token, flush=True)
while True:
    line = sys.stdin.readline()
    if line == "check\\n":
        try:
            held.check()
            print("mine", flush=True)
        except lease.Lost as lost:
            print(lost, flush=True)
    elif line == "release\\n":
        held.release()
        print("released", flush=True)
"""


class Holder:
    """Another process that holds a folder."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.token = int(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def holder(tmp_path):
    made = Holder(tmp_path)
    yield made
    made.end()


def elsewhere(folder: Path, *, token: int = 3, **changes: object) -> Path:
    """The lease of a process on another machine, as a shared folder shows it here."""
    values = {"host": "node7", "machine": "another", "pid": 41, "started": "9", "beat": 0, "released": False} | changes
    file = folder / lease.FOLDER / f"{token:08d}.json"
    record.write_json(file, values)
    return file


def test_a_folder_is_held_by_one_process_until_it_lets_go(holder, tmp_path):
    assert holder.token == 1
    for patient in (True, False):
        with pytest.raises(lease.InUse, match=rf"process {holder.process.pid} on .* is training there"):
            lease.take(tmp_path, patient=patient)
    assert holder.say("release") == "released"
    mine = lease.take(tmp_path, patient=False)
    assert mine.token == 2
    assert "lease 2, this one has 1" in holder.say("check")
    mine.check()
    mine.release()


def test_a_process_that_was_killed_holds_nothing(holder, tmp_path):
    holder.process.kill()
    began = time.monotonic()
    while holder.process.poll() is None:
        time.sleep(0.01)
    lease.take(tmp_path, patient=False).release()
    assert time.monotonic() - began < lease.BEAT, "its number is gone from this machine: nobody waits for a sign of it"


def test_one_that_was_asleep_writes_nothing_after_another_took_over(holder, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "PATIENCE", 1.0)
    assert holder.say("check") == "mine"
    os.kill(holder.process.pid, signal.SIGSTOP)
    while Path(f"/proc/{holder.process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.01)
    with pytest.raises(lease.InUse):
        lease.take(tmp_path, patient=False)
    mine = lease.take(tmp_path)
    os.kill(holder.process.pid, signal.SIGCONT)
    assert "lease 2, this one has 1" in holder.say("check")
    time.sleep(1)  # five of its signs of life, which it no longer gives
    mine.check()
    assert [file.name for file in (tmp_path / lease.FOLDER).iterdir()] == ["00000002.json"]
    mine.release()


def test_a_process_elsewhere_is_believed_to_live_as_long_as_its_lease_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "PATIENCE", 1.5)
    file = elsewhere(tmp_path)
    with pytest.raises(lease.InUse, match="process 41 on node7"):
        lease.take(tmp_path, patient=False)
    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(lease.take, tmp_path)
        time.sleep(0.5)
        elsewhere(tmp_path, beat=1)
        with pytest.raises(lease.InUse):
            taking.result(timeout=30)
    mine = lease.take(tmp_path)
    assert mine.token == 4
    assert not file.exists()
    mine.release()


def test_what_was_let_go_elsewhere_is_free_at_once(tmp_path):
    elsewhere(tmp_path, released=True)
    mine = lease.take(tmp_path, patient=False)
    assert mine.token == 4
    mine.release()


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=40))
def test_a_damaged_lease_is_waited_for_like_one_that_does_not_change(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("damaged")
    file = elsewhere(folder)
    file.write_bytes(content)
    assert lease.Watch(folder).look()[0] == "unsure"


def test_of_many_that_take_at_once_one_gets_each_number(tmp_path):
    """Eight threads each take and release 25 times: 200 numbers, each given once, never two holders."""
    holding = []

    def takes(_: int) -> list[int]:
        tokens = []
        while len(tokens) < 25:
            try:
                mine = lease.take(tmp_path, patient=False)
            except lease.InUse:
                time.sleep(0.0005)
                continue
            try:
                holding.append(mine.token)
                assert holding == [mine.token]
                mine.check()
                tokens.append(mine.token)
            finally:
                holding.remove(mine.token)
                mine.release()
        return tokens

    with ThreadPoolExecutor(8) as pool:
        found = sorted(token for tokens in pool.map(takes, range(8)) for token in tokens)
    assert found == list(range(1, 201))


def test_a_file_is_created_once_and_never_half(tmp_path):
    texts = [f"{number}" * 100_000 for number in range(8)]
    for round_ in range(20):
        file = tmp_path / f"{round_}.json"
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda text, file=file: storage.create(file, text), texts))
        assert sum(made) == 1
        assert file.read_text() == texts[made.index(True)]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".json"] * 20


def test_signs_of_life_are_given_while_a_folder_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "BEAT", 0.1)
    mine = lease.take(tmp_path)
    file = tmp_path / lease.FOLDER / "00000001.json"
    deadline = time.monotonic() + 30  # a sign under the patched interval may first wait out one of the usual length
    while json.loads(file.read_text())["beat"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    mine.release()
    last = file.read_text()
    assert json.loads(last)["released"]
    time.sleep(0.5)
    assert file.read_text() == last
