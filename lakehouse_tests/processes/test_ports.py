"""A port is free unless another socket has taken it."""

import socket

from lakehouse.processes.ports import LOOPBACK, free_port, is_free


def test_free_preferred_port_is_chosen() -> None:
    port = free_port()
    assert is_free(port)
    assert free_port(port) == port


def test_taken_preferred_port_is_replaced() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        taken = server.getsockname()[1]
        assert not is_free(taken)
        chosen = free_port(taken)
        assert chosen != taken
        assert is_free(chosen)


def test_port_of_unknown_host_is_not_free() -> None:
    assert not is_free(0, "192.0.2.1")
