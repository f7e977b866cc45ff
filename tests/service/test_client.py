from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from service.client import ClientError, LosscastClient


class Stranger(BaseHTTPRequestHandler):
    """An HTTP server that is no Losscast."""

    def do_GET(self) -> None:
        self.send_response(502)
        self.end_headers()
        self.wfile.write(b"<html>bad gateway</html>")

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def stranger() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Stranger)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_that_is_no_losscast_is_told_apart(stranger: str) -> None:
    with LosscastClient(stranger) as client, pytest.raises(ClientError, match=r"HTTP 502 .* a Losscast") as refused:
        client.stats()
    assert refused.value.status == 502


def test_no_server_has_no_status(grey: Callable[..., bytes]) -> None:
    with LosscastClient("http://127.0.0.1:1") as client, pytest.raises(ClientError, match="no answer") as refused:
        client.predict(grey(0.5))
    assert refused.value.status is None
