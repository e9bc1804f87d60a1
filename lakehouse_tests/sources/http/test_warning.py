"""An HTTP server off loopback without TLS is warned of."""

from pathlib import Path

import pytest

from lakehouse.http.auth import unencrypted_warning
from lakehouse.settings import Settings


@pytest.mark.parametrize(
    ("host", "has_tls", "warns"),
    [
        ("127.0.0.1", False, False),
        ("::1", False, False),
        ("localhost", False, False),
        ("0.0.0.0", False, True),  # noqa: S104
        ("10.0.0.1", False, True),
        ("lake.example", False, True),
        ("0.0.0.0", True, False),  # noqa: S104
    ],
)
def test_warning_is_given_where_keys_travel_unencrypted(tmp_path: Path, host: str, has_tls: bool, warns: bool) -> None:
    file = tmp_path / "certificate.pem"
    certificate = file if has_tls else None
    settings = Settings(home=tmp_path, http_host=host, http_tls_certificate=certificate, http_tls_key=certificate)
    assert (unencrypted_warning(settings) is not None) == warns
