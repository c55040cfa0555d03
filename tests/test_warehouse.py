"""The warehouse behind its one interface: many askers at once, and answers that break off."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pixel import jobs
from pixel.errors import AnalyticsError
from pixel.extensions import warehouse
from pixel.warehouse import embedded
from pixel.warehouse.embedded import QUERIES, parsed, statements
from tests.server import until


def test_of_many_questions_at_once_each_gets_its_own_answer(app):
    # One mixed-up answer in ten thousand would show in six of seven runs.
    ask_many(app, 20_000)


def ask_many(app, times):
    """Ask from 32 threads at once, each time something else."""

    def ask(number):
        words = {"number": number, "text": f"text {number} '\\\n"}
        with app.app_context():
            answer = warehouse.query("SELECT {number:UInt64} AS number, {text:String} AS text", words)
        return answer["data"] == [words]

    with ThreadPoolExecutor(32) as threads:
        assert all(threads.map(ask, range(times)))


@pytest.mark.parametrize(("cores", "alone", "beside"), [(1, 1, 1), (2, 2, 1), (8, 2, 2)])
def test_a_question_beside_another_one_gets_its_share_of_the_cores(app, monkeypatch, cores, alone, beside):
    def threads(wait):
        with app.app_context():
            [row] = warehouse.query(f"SELECT getSetting('max_threads') AS threads, sleep({wait})")["data"]
        return row["threads"]

    monkeypatch.setattr(embedded, "_CORES", cores)
    assert threads(0) == alone
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(threads, 2)
        until(lambda: threads(0) == beside)
        asked.result()
    assert threads(0) == alone


def test_reports_alone_go_without_a_better_plan(app):
    settled = "SELECT toUInt8(getSetting('query_plan_enable_optimizations')) AS planned"
    with app.app_context():
        assert warehouse.report(settled, {})["data"] == [{"planned": 0}]
        assert warehouse.query(settled)["data"] == [{"planned": 1}]


@pytest.mark.parametrize("sql", ["SELECT", "SELECT x", "SELECT throwIf(number = 70000) FROM numbers(100000)"])
def test_a_failing_question_is_an_analytics_error_and_the_next_is_answered(app, sql):
    with app.app_context():
        with pytest.raises(AnalyticsError):
            warehouse.query(sql)
        # Of every connection, or what the failed one had written would come before somebody else's answer.
        for _ in range(QUERIES + 1):
            assert warehouse.query("SELECT 1 AS one")["data"] == [{"one": 1}]


@pytest.mark.parametrize("answer", [b"", b"{", b'{"data": []}\nCode: 1001. DB::Exception: away', b"Code: 1"])
def test_an_answer_that_broke_off_is_an_analytics_error(answer):
    with pytest.raises(AnalyticsError):
        parsed(answer)


def test_a_file_of_statements_is_read_statement_by_statement():
    assert statements("SELECT ';' AS a;\n\nSELECT\n 2;\n") == ["SELECT ';' AS a", "SELECT\n 2"]


def test_memory_that_a_report_has_left_behind_is_given_back(app):
    def anonymous():
        found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
        return int(found.split()[1]) // 1024

    with app.app_context():
        warehouse.query("SELECT count() FROM (SELECT toString(number) AS text FROM numbers(2000000) GROUP BY text)")
        before = anonymous()
        jobs.give_back_memory()
        assert anonymous() < before - 10
