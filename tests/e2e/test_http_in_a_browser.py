"""The HTTP service as a browser sees it: its page of documentation, and what pages of others can do to it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page
from support.browser import browser
from support.served import House, house

pytestmark = pytest.mark.usefixtures("unmeasured")

PODS = "/api/cloud/pods"
WISH = '{"name": "theirs", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000"}'
# What a page can try: a read, the "simple" writes that browsers send without asking first, one that they ask for, and
# a form. It tells what it could see.
HOSTILE = """
<form method="post" action="{url}/api/cloud/pods" enctype="text/plain" target="hidden">
  <input name='{{"name": "theirs", "image_name": "x/y", "gpu_type_id": "NVIDIA RTX A4000", "env": {{"A": "'
    value='"}}}}'>
</form>
<iframe name="hidden"></iframe>
<script>
async function tried(options) {{
  try {{
    const answer = await fetch("{url}/api/cloud/pods", options);
    return answer.type + " " + answer.status + " " + await answer.text();
  }} catch (error) {{ return "blocked"; }}
}}
async function attack() {{
  const body = {body};
  const seen = [
    await tried({{}}),
    await tried({{mode: "no-cors"}}),
    await tried({{method: "POST", mode: "no-cors", headers: {{"content-type": "text/plain"}}, body}}),
    await tried({{method: "POST", headers: {{"content-type": "application/json"}}, body}}),
  ];
  const frame = document.querySelector("iframe");
  const sent = new Promise((resolve) => frame.addEventListener("load", resolve, {{once: true}}));
  document.forms[0].submit();
  await sent;
  return seen;
}}
</script>
"""


def test_the_docs_load_nothing_from_elsewhere_and_their_calls_work(tmp_path: Path) -> None:
    """Every operation is shown; a key that is typed in opens them, and is not kept."""
    with house(tmp_path, "runpod") as place, browser() as opened:
        key = place.call("keys", "create", "--name", "mine").strip()
        place.serve()
        page = opened.new_page()
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
        page.goto(f"{place.url}/docs")
        with place.client() as client:
            described = client.get("/openapi.json").json()["paths"]
        page.locator(".opblock").first.wait_for()
        assert page.locator(".opblock").count() == sum(len(methods) for methods in described.values())
        assert _called(page, "#operations-pods-history_api_v1_pods_history_get") == "401"
        page.locator(".auth-wrapper .authorize").click()
        page.locator(".auth-container input").fill(key)
        page.locator(".modal-ux .authorize").click()
        page.locator(".modal-ux .btn-done").click()
        assert _called(page, "#operations-pods-history_api_v1_pods_history_get") == "200"
        hosts = {urlsplit(url).netloc for url in asked if not url.startswith("data:")}
        assert hosts == {urlsplit(place.url).netloc}
        assert [line for line in complaints if "401" not in line] == []
        assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0


def _called(page: Page, operation: str) -> str:
    """Send it as it stands; the status that the page shows."""
    block = page.locator(operation)
    if not block.locator(".try-out__btn").is_visible():
        block.locator(".opblock-summary-control").click()
        block.locator(".try-out__btn").click()
    with page.expect_response(lambda answer: "/history" in answer.url) as answered:
        block.locator(".execute").click()
    status = str(answered.value.status)
    block.locator(".live-responses-table .response-col_status", has_text=status).first.wait_for()
    return status


@pytest.mark.full
@pytest.mark.parametrize(
    "site", [pytest.param("localhost", id="cross-site"), pytest.param("127.0.0.1", id="same-site")]
)
def test_a_page_of_another_site_can_neither_read_nor_rent(tmp_path: Path, site: str) -> None:
    """Without keys, on the machine of whoever looks at that page."""
    with house(tmp_path, "runpod") as place, _hostile(place) as port, browser() as opened:
        page = opened.new_page()
        statuses: list[int] = []
        page.on("response", lambda answer: statuses.append(answer.status) if PODS in answer.url else None)
        page.goto(f"http://{site}:{port}/")
        seen = page.evaluate("attack()")
        assert all(one == "blocked" or one.startswith("opaque 0 ") for one in seen), seen
        assert set(statuses) == {403}
        assert not place.world.live()


@pytest.mark.full
def test_a_name_that_somebody_points_at_loopback_is_not_answered(tmp_path: Path) -> None:
    """Such a page would be of the service's own origin."""
    with house(tmp_path, "runpod") as place, browser(names={"rebound.example": "127.0.0.1"}) as opened:
        place.serve()
        port = urlsplit(place.url).port
        page = opened.new_page()
        for path in ("/docs", PODS, "/openapi.json"):
            answer = page.goto(f"http://rebound.example:{port}{path}")
            assert answer is not None
            assert answer.status == 400
        written = "async (body) => (await fetch('/api/cloud/pods', {method: 'POST', body, headers})).status"
        written = written.replace("headers}", "headers: {'content-type': 'application/json'}}")
        assert page.evaluate(written, WISH) == 400
        assert not place.world.live()


@contextmanager
def _hostile(place: House) -> Iterator[int]:
    """Somebody else's site; its port."""
    place.serve()
    text = HOSTILE.format(url=place.url, body=repr(WISH)).encode()

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_values: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
