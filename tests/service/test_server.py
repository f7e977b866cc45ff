import socket

import pytest

from service.errors import StartError
from service.server import _bind
from service.settings import Settings


def test_the_listener_names_its_protocol_so_that_replies_are_sent_at_once() -> None:
    """The event loop sets TCP_NODELAY only then; without it a reply waits 40 ms for an acknowledgement."""
    with _bind(Settings(port=0)) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_nobody_is_accepted_before_the_service_is_open() -> None:
    with _bind(Settings(port=0)) as listener, pytest.raises(ConnectionRefusedError):
        socket.create_connection(listener.getsockname(), timeout=5)


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with _bind(Settings(port=0)) as listener:
        listener.listen()
        with pytest.raises(StartError, match=r"Address already in use.*LOSSCAST_PORT"):
            _bind(Settings(port=listener.getsockname()[1]))
