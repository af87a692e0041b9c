"""Joining a Ray cluster."""

import socket

import pytest

from stages import ray_session


@pytest.mark.usefixtures("ray_session")  # Ray is imported with its settings before this test imports it
def test_an_address_where_nothing_listens_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"  # bound, but not listening
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray_session, "_address", address)
        with pytest.raises(ValueError, match=f"no Ray cluster answers at {address}.*start it or correct it"):
            ray_session.ensure_ray()
