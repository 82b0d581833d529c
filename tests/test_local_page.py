"""A page that only this computer can read."""

from __future__ import annotations

import http.client

from worldmodel.local_page import HOST, Content, LocalPage


def answer(path: str) -> Content | None:
    return Content("text/html", b"<p>hello", "default-src 'none'") if path == "/a" else None


def ask(page: LocalPage, path: str, host: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(HOST, int(page.address.rpartition(":")[2]), timeout=20)
    connection.request("GET", path, headers={"Host": host})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


def test_a_page_is_served_with_its_type_and_its_policy_and_is_not_cached() -> None:
    with LocalPage(0, answer) as page:
        response = ask(page, "/a?1", f"{HOST}:80")
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'"
    assert response.headers["Cache-Control"] == "no-store"


def test_another_path_and_another_host_get_nothing() -> None:
    with LocalPage(0, answer) as page:
        assert page.address.startswith("http://127.0.0.1:")
        assert ask(page, "/b", f"{HOST}:80").status == 404
        for host, status in (("localhost:1", 200), ("elsewhere.example:80", 404), ("", 404)):
            assert ask(page, "/a", host).status == status
