"""TLS files of the settings, as options of the addresses that drivers are given."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr, ValidationError

from api_shared.testing import default_settings
from api_shared.tls import why_untrusted, with_options


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a file.pem"
    path.touch()
    return str(path)


@pytest.mark.parametrize(
    ("url", "with_one"),
    [
        ("amqps://h:1/v", "amqps://h:1/v?cafile=/x"),
        ("amqps://h:1", "amqps://h:1/?cafile=/x"),
        ("mongodb://a:1,b:2/?replicaSet=rs0", "mongodb://a:1,b:2/?replicaSet=rs0&cafile=/x"),
        ("mongodb://a:1,b:2", "mongodb://a:1,b:2/?cafile=/x"),
    ],
)
def test_options_join_the_query(url: str, with_one: str) -> None:
    assert with_options(url, {"cafile": "/x"}) == with_one
    assert with_options(url, {}) == url


def test_each_driver_is_given_its_own_options(file: str) -> None:
    settings = default_settings(
        rabbitmq_tls_ca_file=file,
        rabbitmq_tls_cert_file=file,
        mongodb_tls_ca_file=file,
        mongodb_tls_cert_file=file,
        redis_url=SecretStr("rediss://h:1/0"),
        redis_tls_ca_file=file,
        redis_tls_cert_file=file,
    )
    amqp, mongodb, redis = (
        urlsplit(url)
        for url in (settings.amqp_url, settings.mongodb_address, settings.redis_address)
    )
    assert (amqp.scheme, parse_qs(amqp.query)) == ("amqps", {"cafile": [file], "certfile": [file]})
    assert parse_qs(mongodb.query) == {
        "directConnection": ["true"],
        "tls": ["true"],
        "tlsCAFile": [file],
        "tlsCertificateKeyFile": [file],
    }
    assert (redis.scheme, parse_qs(redis.query)) == (
        "rediss",
        {"ssl_ca_certs": [file], "ssl_certfile": [file]},
    )


def test_without_tls_files_the_addresses_are_as_they_were_set() -> None:
    settings = default_settings()
    assert settings.amqp_url == "amqp://guest:guest@localhost:5672/%2F"
    assert settings.mongodb_address == settings.mongodb_url.get_secret_value()
    assert settings.redis_address == settings.redis_url.get_secret_value()


@pytest.mark.parametrize("server", ["rabbitmq", "mongodb", "redis"])
def test_a_file_that_is_not_there_is_named_at_start(server: str) -> None:
    with pytest.raises(ValidationError, match=f"{server.upper()}_TLS_CA_FILE: there is no file"):
        default_settings(**{f"{server}_tls_ca_file": "/no/such.pem"})


@pytest.mark.parametrize(
    ("server", "url", "scheme"),
    [("rabbitmq", "amqp://h/", "amqps"), ("redis", "redis://h/0", "rediss")],
)
def test_a_tls_file_for_an_address_without_tls_is_refused(
    server: str, url: str, scheme: str, file: str
) -> None:
    values = {f"{server}_url": SecretStr(url), f"{server}_tls_ca_file": file}
    with pytest.raises(ValidationError, match=f"needs {server.upper()}_URL with {scheme}://"):
        default_settings(**values)


def test_a_refused_certificate_is_said_whatever_it_is_wrapped_in() -> None:
    inner = ssl.SSLCertVerificationError("certificate verify failed: self-signed (_ssl.c:1)")
    outer = ConnectionError("Error 1")
    outer.__cause__ = inner
    for error in (inner, outer):
        assert why_untrusted(error, "X_TLS_CA_FILE") == (
            "its certificate is not trusted (self-signed): name the CA that signed it in "
            "X_TLS_CA_FILE"
        )
    assert why_untrusted(ConnectionError("refused"), "X") is None


def test_a_chain_of_errors_that_is_a_circle_ends() -> None:
    first, second = ConnectionError("first"), ConnectionError("second")
    first.__context__, second.__context__ = second, first
    assert why_untrusted(first, "RABBITMQ_TLS_CA_FILE") is None
