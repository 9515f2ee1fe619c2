"""The page of a store shows every run, also those that can't be read."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from pathlib import Path

from jepsen_lite.report.files import write
from jepsen_lite.report.index import index
from jepsen_lite.store import Store
from tests.jepsen_lite.report import runs


def test_the_page_of_a_store_links_each_report_with_its_verdict(tmp_path: Path) -> None:
    write(runs.stale_read(tmp_path / "one"))
    runs.write_run(tmp_path / "two & <b>", [])
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "test.json").write_text('{"work')
    (tmp_path / "latest").symlink_to("one")

    page = index(Store(tmp_path))

    assert page.count("<tr>") == 1 + 3
    assert '<a href="one/report.html">one</a>' in page
    assert "✗ INVALID" in page
    assert "? not judged" in page
    assert "two &amp; &lt;b&gt;" in page
    assert "<b>" not in page


def test_serve_shows_the_runs_and_their_files_on_this_machine_only(tmp_path: Path) -> None:
    write(runs.stale_read(tmp_path / "one"))
    command = [sys.executable, "-m", "jepsen_lite", "serve", "--store", str(tmp_path)]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\n", line)
            assert found is not None, line
            answers = {path: _get(int(found[1]), path) for path in ("/", "/one/history.jsonl")}
        finally:
            server.terminate()

    assert "one/report.html" in answers["/"][1]
    assert answers["/one/history.jsonl"][0].startswith("text/plain")


def _get(port: int, path: str) -> tuple[str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()
