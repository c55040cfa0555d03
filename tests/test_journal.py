"""The journal from both ends: what was acknowledged is read back, in order, whatever happens to disk and process."""

import errno
import os
import signal
import struct
import subprocess
import sys
import threading
import zlib
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pixel import journal
from pixel.errors import ServiceUnavailable
from tests.server import HOME, until

RECORDS = st.tuples(
    st.sampled_from(journal.TABLES),
    st.binary(max_size=300),
    st.integers(0, 2**63),
    st.binary(min_size=16, max_size=16),
    st.binary(min_size=16, max_size=16),
    st.sampled_from([0, journal.FOREVER]),
)
SAME_FOLDER = [HealthCheck.function_scoped_fixture]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "journal"


@pytest.fixture
def book(folder):
    book = journal.Journal()
    book.bind(folder)
    yield book
    book.close()


def event(row, **options):
    return journal.frame("events", row, 1, **options)


def files(folder):
    return journal.segments(folder)


def rows(folder):
    """The rows of all files in the order of the files, each file read in one go."""
    return [record.row for segment in files(folder) for _, record in segment.read()[0]]


def one_file(folder, *frames):
    """The path of a file that was written by a process that is gone."""
    book = journal.Journal()
    book.bind(folder)
    book.append(b"".join(frames))
    book.close()
    (segment,) = files(folder)
    return segment.path


class Disk:
    """Stands between the journal and the system: a call of `name` (by number, from 1) can be made to fail."""

    def __init__(self, monkeypatch):
        self.calls = {"write": 0, "fdatasync": 0, "rename": 0, "fsync": 0, "ftruncate": 0}
        self.faults = {}
        self.lock = threading.Lock()
        for name in self.calls:
            monkeypatch.setattr(journal.os, name, self._watched(name, getattr(os, name)))

    def fail(self, name, number, fault):
        """Have the call raise the exception `fault`, or do `fault(real, *arguments)` in its place."""
        self.faults[name, self.calls[name] + number] = fault

    def _watched(self, name, real):
        def call(*arguments):
            with self.lock:
                self.calls[name] += 1
                fault = self.faults.get((name, self.calls[name]))
            if isinstance(fault, BaseException):
                raise fault
            return fault(real, *arguments) if fault else real(*arguments)

        return call


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


FULL, BROKEN = OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "Input/output error")


def half(real, fd, data):
    """What a full disk does: it takes a part and says so."""
    return real(fd, bytes(data)[: len(data) // 2])


# -- what is appended


@settings(deadline=None, max_examples=60, suppress_health_check=SAME_FOLDER)
@given(st.lists(st.lists(RECORDS, min_size=1, max_size=5), min_size=1, max_size=10))
def test_what_is_appended_is_read_back_whole_and_in_order(tmp_path_factory, groups):
    book = journal.Journal()
    book.bind(tmp_path_factory.mktemp("journal"))
    for group in groups:
        book.append(b"".join(journal.frame(t, row, at, key, other, flags) for t, row, at, key, other, flags in group))
    (segment,) = files(book.folder)
    found, more = segment.read()
    assert [(r.table, r.row, r.received, r.key, r.other_key, r.flags) for _, r in found] == list(
        chain.from_iterable(groups)
    )
    assert not more
    assert [r.monotonic for _, r in found] == sorted(r.monotonic for _, r in found)
    assert segment.boot == journal.boot_id()
    book.close()


@settings(deadline=None, max_examples=40, suppress_health_check=SAME_FOLDER)
@given(st.lists(st.binary(max_size=200), min_size=1, max_size=20), st.integers(300, 900))
def test_a_file_read_in_pieces_gives_the_same_as_in_one_go(tmp_path_factory, given_rows, most_bytes):
    folder = tmp_path_factory.mktemp("journal")
    segment = journal.Segment(one_file(folder, *map(event, given_rows)))
    whole, _ = segment.read()
    pieces, offset, more = [], 0, True
    while more:
        part, more = segment.read(offset, most_bytes)
        pieces += part
        offset = part[-1][0] if part else offset
    assert pieces == whole


def test_many_threads_share_few_syncs_and_every_record_is_there_once(book, folder, disk):
    total, threads = 4000, 16

    def slow_enough_for_a_crowd(real, fd):
        gathered.wait(10)
        return real(fd)

    gathered = threading.Event()
    disk.fail("fdatasync", 2, slow_enough_for_a_crowd)  # the first one is the file's header

    def write(number):
        for i in range(total // threads):
            book.append(event(b"%d-%d" % (number, i)))

    crowd = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
    for thread in crowd:
        thread.start()
    until(lambda: len(book._gathering.frames) == threads - 1)
    gathered.set()
    for thread in crowd:
        thread.join()
    found = rows(folder)
    print(f"{total} appends by {threads} threads took {disk.calls['fdatasync']} syncs")
    assert sorted(found) == sorted(b"%d-%d" % (n, i) for n in range(threads) for i in range(total // threads))
    for number in range(threads):
        mine = [row for row in found if row.startswith(b"%d-" % number)]
        assert mine == [b"%d-%d" % (number, i) for i in range(total // threads)]
    assert disk.calls["fdatasync"] < total


def test_an_append_has_synced_its_bytes_when_it_returns(book, folder, disk):
    synced = []
    real = journal.os.fdatasync
    journal.os.fdatasync = lambda fd: (real(fd), synced.append(os.fstat(fd).st_size))
    try:
        for i in range(20):
            book.append(event(b"%d" % i))
            assert synced[-1] == files(folder)[0].path.stat().st_size
    finally:
        journal.os.fdatasync = real


def test_rows_that_nobody_waits_for_are_written_without_being_asked_for(book, folder):
    for i in range(10):
        book.append_later(event(b"later %d" % i))
    until(lambda: rows(folder) == [b"later %d" % i for i in range(10)])


def test_a_long_journal_is_cut_into_files_and_their_order_is_that_of_time(book, folder, monkeypatch):
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 2000)
    for i in range(200):
        book.append(event(b"%04d" % i))
    assert len(files(folder)) > 5
    assert rows(folder) == [b"%04d" % i for i in range(200)]


def test_a_record_is_found_by_what_its_row_holds_and_only_there(book, folder):
    for i in range(5):
        book.append(event(b'{"event_id":"e%d"}' % i))
    assert [record.row for record in journal.find(folder, b'"event_id":"e3"')] == [b'{"event_id":"e3"}']
    assert list(journal.find(folder, b'"event_id":"e9"')) == []


# -- tails and damage


@pytest.mark.parametrize("last", [b"", b"x", b"y" * 70])
def test_a_torn_tail_of_every_length_is_ignored_and_what_precedes_it_is_kept(tmp_path, last):
    first, second = event(b"first"), event(last)
    path = one_file(tmp_path / "whole", first, second)
    whole = path.read_bytes()
    torn = tmp_path / path.name
    for missing in range(1, len(second) + 1):
        torn.write_bytes(whole[: len(whole) - missing])
        found, more = journal.Segment(torn).read()
        assert [record.row for _, record in found] == [b"first"], f"{missing} bytes missing"
        assert not more


@settings(deadline=None, max_examples=200, suppress_health_check=SAME_FOLDER)
@given(st.lists(st.binary(max_size=60), min_size=1, max_size=6), st.data())
def test_a_flipped_byte_is_damage_and_what_precedes_it_survives(tmp_path_factory, given_rows, data):
    folder = tmp_path_factory.mktemp("journal")
    frames = [event(row) for row in given_rows]
    path = one_file(folder, *frames)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(journal.HEADER.size, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    ends = [journal.HEADER.size + sum(map(len, frames[: i + 1])) for i in range(len(frames))]
    intact = sum(end <= place for end in ends)
    try:
        found, _ = journal.Segment(path).read()
    except journal.DamagedJournal as damage:
        found = damage.found
        assert damage.offset == ([journal.HEADER.size, *ends])[intact]
    else:
        # A size that now reaches beyond the end of the file looks like a tail that was torn.
        size = ([journal.HEADER.size, *ends])[intact]
        assert size <= place < size + 4
    assert [record.row for _, record in found] == given_rows[:intact]


def test_a_frame_too_short_for_a_record_is_damage_even_when_its_checksum_holds(tmp_path):
    path = one_file(tmp_path / "journal", event(b"good"))
    for body in (b"", b"short"):
        with open(path, "ab") as file:
            file.write(struct.pack("<II", len(body), zlib.crc32(body)) + body + bytes(64))
        with pytest.raises(journal.DamagedJournal) as damage:
            journal.Segment(path).read()
        assert [record.row for _, record in damage.value.found] == [b"good"]


def test_a_file_without_a_whole_header_is_not_taken_for_a_journal(tmp_path):
    header = one_file(tmp_path / "whole", event(b"x")).read_bytes()[: journal.HEADER.size]
    for length in range(journal.HEADER.size):
        path = tmp_path / "1-1.journal"
        path.write_bytes(header[:length])
        with pytest.raises(ValueError, match="not a journal"):
            journal.Segment(path)


# -- a disk that fails


@pytest.mark.parametrize("fault", [FULL, BROKEN], ids=["full", "broken"])
@pytest.mark.parametrize("call", ["write", "fdatasync"])
@pytest.mark.parametrize("number", range(1, 6))
def test_a_failing_disk_refuses_and_the_next_append_is_kept_once(book, folder, disk, call, number, fault):
    disk.fail(call, number, fault)
    acknowledged, refused = [], []
    for i in range(8):
        row = b"row %d" % i
        try:
            book.append(event(row))
            acknowledged.append(row)
        except ServiceUnavailable as refusal:
            assert refusal.headers["Retry-After"] == "5"
            refused.append(row)
    assert len(refused) == 1
    assert rows(folder) == acknowledged


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_file_whose_name_may_not_survive_is_not_written_to(book, folder, disk, call):
    disk.fail(call, 1, BROKEN)
    with pytest.raises(ServiceUnavailable):
        book.append(event(b"refused"))
    book.append(event(b"kept"))
    assert rows(folder) == [b"kept"]
    assert not list(folder.glob("*.new"))


def test_a_write_that_takes_a_part_and_then_fails_leaves_nothing_of_it(book, folder, disk):
    book.append(event(b"before"))
    disk.fail("write", 1, half)
    disk.fail("write", 2, FULL)
    with pytest.raises(ServiceUnavailable):
        book.append(event(b"refused, first") + event(b"refused, second"))
    before = files(folder)[0]
    assert before.is_final()
    book.append(event(b"after"))
    assert rows(folder) == [b"before", b"after"]
    assert len(files(folder)) == 2


@pytest.mark.parametrize("number", [1, 2], ids=["the header", "a record"])
def test_a_write_that_takes_only_a_part_is_gone_on_with(book, folder, disk, number):
    disk.fail("write", number, half)
    try:
        book.append(event(b"kept"))
        acknowledged = [b"kept"]
    except ServiceUnavailable:
        acknowledged = []
    book.append(event(b"kept too"))
    assert rows(folder) == [*acknowledged, b"kept too"]


def test_everyone_who_shares_a_failing_sync_is_refused_and_none_of_theirs_is_kept(book, folder, disk):
    book.append(event(b"before"))
    refused, started = outcome_of_a_shared_commit(book, disk, "fdatasync", BROKEN)
    assert len(refused) == started
    assert rows(folder) == [b"before", b"first"]
    book.append(event(b"after"))
    assert rows(folder) == [b"before", b"first", b"after"]


def test_nobody_is_acknowledged_when_the_commit_they_share_fails_in_an_unforeseen_way(book, folder, disk):
    book.append(event(b"before"))
    refused, started = outcome_of_a_shared_commit(book, disk, "write", MemoryError())
    kept = rows(folder)
    print(f"{started} shared a commit that ran out of memory, {len(refused)} were refused, {len(kept) - 2} kept")
    assert len(refused) == started


def test_what_follows_an_unforeseen_failure_in_the_middle_of_a_write_is_readable(book, folder, disk):
    disk.fail("write", 2, half)
    disk.fail("write", 3, MemoryError())
    with pytest.raises((MemoryError, ServiceUnavailable)):
        book.append(event(b"refused"))
    book.append(event(b"acknowledged"))
    assert rows(folder) == [b"acknowledged"]


def outcome_of_a_shared_commit(book, disk, call, fault):
    """Have eight appends gather behind a slow one and their common commit fail: (those refused, how many)."""
    slow, reached = threading.Event(), threading.Event()

    def wait(real, fd):
        reached.set()
        slow.wait(10)
        return real(fd)

    disk.fail("fdatasync", 1, wait)
    disk.fail(call, 2, fault)
    first = threading.Thread(target=book.append, args=(event(b"first"),))
    first.start()
    reached.wait(10)
    refused = []

    def append(i):
        try:
            book.append(event(b"shared %d" % i))
        except (ServiceUnavailable, MemoryError) as refusal:
            refused.append(refusal)

    crowd = [threading.Thread(target=append, args=(i,)) for i in range(8)]
    for thread in crowd:
        thread.start()
    until(lambda: len(book._gathering.frames) == len(crowd))
    slow.set()
    for thread in [first, *crowd]:
        thread.join()
    return refused, len(crowd)


def test_a_full_disk_that_gets_room_again_takes_events_again(tmp_path):
    """The condition is real: the process may not write files longer than 4 KiB, and then it may."""
    script = """
import resource, sys
from pixel import journal
from pixel.errors import ServiceUnavailable
book = journal.Journal()
book.bind(sys.argv[1])
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
for i in range(40):
    try:
        book.append(b"".join(journal.frame("events", b"%d.%d" % (i, j) * 20, 1) for j in range(50)))
        print(i, "accepted")
    except ServiceUnavailable:
        print(i, "refused")
        if i == 20:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
"""
    folder = tmp_path / "journal"
    done = subprocess.run(
        [sys.executable, "-c", script, folder], cwd=HOME, capture_output=True, text=True, timeout=60, check=True
    )
    said = dict(line.split() for line in done.stdout.splitlines())
    accepted = [int(i) for i, word in said.items() if word == "accepted"]
    assert accepted == list(range(21, 40))
    assert rows(folder) == [b"%d.%d" % (i, j) * 20 for i in accepted for j in range(50)]


# -- processes


def test_a_forked_child_begins_a_file_of_its_own_and_its_parents_goes_on(book, folder):
    book.append(event(b"parent before"))
    child = os.fork()
    if child == 0:
        try:
            book.append(event(b"child"))
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    book.append(event(b"parent after"))
    mine, childs = files(folder)
    assert [record.row for _, record in mine.read()[0]] == [b"parent before", b"parent after"]
    assert [record.row for _, record in childs.read()[0]] == [b"child"]
    assert not mine.is_final()
    assert childs.is_final()


def test_a_child_forked_while_others_append_can_append_too(book, folder):
    stopping, written = threading.Event(), []

    def write():
        while not stopping.is_set():
            book.append(event(b"parent"))
            written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(10):
        before = len(written)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            try:
                book.append(event(b"child"))
                os._exit(0)
            except BaseException:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        until(lambda before=before: len(written) > before)
    stopping.set()
    writer.join()
    found = rows(folder)
    assert found.count(b"child") == 10
    assert found.count(b"parent") == len(written)


def test_a_live_file_is_not_final_and_that_of_a_killed_writer_is(folder):
    script = """
import sys
from pixel import journal
book = journal.Journal()
book.bind(sys.argv[1])
book.append(journal.frame("events", b"acknowledged", 1))
print("ready", flush=True)
sys.stdin.read()
"""
    writer = subprocess.Popen(
        [sys.executable, "-c", script, folder], cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout.readline() == b"ready\n"
        (segment,) = files(folder)
        assert not segment.is_final()
    finally:
        writer.kill()
        writer.communicate()
    assert segment.is_final()
    assert rows(folder) == [b"acknowledged"]


def test_a_closed_file_is_final_and_the_next_append_begins_another(book, folder):
    book.append(event(b"one"))
    assert not files(folder)[0].is_final()
    book.close()
    assert files(folder)[0].is_final()
    book.append(event(b"two"))
    assert [segment.is_final() for segment in files(folder)] == [True, False]
    assert rows(folder) == [b"one", b"two"]


def test_an_empty_journal_makes_no_file(book, folder):
    book.flush()
    book.close()
    assert list(folder.iterdir()) == []
