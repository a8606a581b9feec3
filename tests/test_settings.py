"""Settings: documented, overridden by the environment, and refused where they are malformed or unsafe."""

from __future__ import annotations

import re
import traceback
from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import SecretStr

from sellflow.errors import ConfigurationError
from sellflow.settings import Settings, load_settings, packaged_defaults

PLANTED = "a-planted-secret"
SECRETS = sorted(name for name, field in Settings.model_fields.items() if field.annotation is SecretStr)
PRODUCTION = {
    "environment": "production",
    "demo_app_secret": "",
    "database_session_url": "postgresql://db/sellflow",
    "database_web_password": "one",
    "database_worker_password": "two",
    "database_ingest_password": "three",
    "database_admin_password": "four",
}


def whole_trace(error: BaseException) -> str:
    """Return all that a log could show of an error, its causes included."""
    return "".join(traceback.format_exception(error))


def defaults_file() -> str:
    return files("sellflow").joinpath("defaults.toml").read_text(encoding="utf-8")


def test_every_setting_is_in_the_defaults_file_and_the_other_way_round() -> None:
    assert set(Settings.model_fields) == set(packaged_defaults())


def test_every_setting_is_documented_by_the_comment_above_its_group() -> None:
    for paragraph in defaults_file().split("\n\n"):
        lines = paragraph.splitlines()
        settings = [line for line in lines if re.match(r"\w+ = ", line)]
        if settings:
            assert lines[0].startswith("# "), f"{settings[0]} has no comment"


def test_no_setting_has_a_default_of_its_own_beside_the_file() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.is_required()] == []


@pytest.mark.parametrize("networks", ["10.0.0.1/8", "everything", "10.0.0.0/8; fd00::/8"])
def test_a_list_that_holds_no_networks_is_refused(networks: str) -> None:
    with pytest.raises(ConfigurationError, match="SELLFLOW_OUTGOING_PRIVATE_NETWORKS: "):
        load_settings(outgoing_private_networks=networks)


def test_the_defaults_are_valid_and_run_the_embedded_server() -> None:
    settings = load_settings()
    assert settings.environment == "development"
    assert settings.embedded
    assert settings.web_url == "http://127.0.0.1:8080"
    assert settings.simulator_url == "http://127.0.0.1:8081"


def test_the_environment_overrides_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELLFLOW_WEB_PORT", "9000")
    monkeypatch.setenv("SELLFLOW_DATA_DIR", "/srv/sellflow")
    monkeypatch.setenv("SELLFLOW_RETRY_BASE", "0.5")
    monkeypatch.setenv("SELLFLOW_DATABASE_WEB_PASSWORD", PLANTED)
    settings = load_settings()
    assert settings.web_port == 9000
    assert settings.data_dir == Path("/srv/sellflow")
    assert settings.retry_base == 0.5
    assert settings.database_web_password.get_secret_value() == PLANTED


def test_explicit_values_override_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELLFLOW_WEB_PORT", "9000")
    assert load_settings(web_port=9001).web_port == 9001


def test_variables_without_the_prefix_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_PORT", "9000")
    assert load_settings().web_port == 8080


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("web_port", "eighty"),
        ("web_port", "65536"),
        ("environment", "staging"),
        ("log_level", "loud"),
        ("webhook_deadline", "5"),
        ("statement_timeout", "0"),
        ("event_partitions_ahead", "0"),
        ("database_session_url", "mysql://db/sellflow"),
    ],
)
def test_a_malformed_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    variable = f"SELLFLOW_{name.upper()}"
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"^{variable}: "):
        load_settings()


def test_every_malformed_value_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELLFLOW_WEB_PORT", "eighty")
    monkeypatch.setenv("SELLFLOW_LOG_LEVEL", "loud")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "SELLFLOW_WEB_PORT",
        "SELLFLOW_LOG_LEVEL",
    ]


@pytest.mark.parametrize("services", ["a b", "acme.", "1st", "acme,", "acme;os", "acme..gifts"])
def test_services_are_names_of_modules(services: str) -> None:
    with pytest.raises(ConfigurationError, match=r"SELLFLOW_SERVICES: .* is no name of a Python module"):
        load_settings(services=services)


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="SELLFLOW_WEB_PROT"):
        load_settings(web_prot=8080)


@pytest.mark.parametrize("name", ["database_session_url", "database_pooled_url"])
@pytest.mark.parametrize("credentials", [f"owner:{PLANTED}@", f":{PLANTED}@", "owner@"])
def test_an_address_with_credentials_is_refused_without_repeating_them(
    monkeypatch: pytest.MonkeyPatch, name: str, credentials: str
) -> None:
    monkeypatch.setenv(f"SELLFLOW_{name.upper()}", f"postgresql://{credentials}db/sellflow")
    with pytest.raises(ConfigurationError, match=rf"^SELLFLOW_{name.upper()}: .*PASSWORD instead") as caught:
        load_settings()
    assert PLANTED not in whole_trace(caught.value)


@pytest.mark.parametrize("name", ["database_session_url", "database_pooled_url"])
@pytest.mark.parametrize("query", [f"password={PLANTED}", f"sslmode=require&password={PLANTED}", "user=owner"])
def test_an_address_with_credentials_in_its_query_is_refused_too(
    monkeypatch: pytest.MonkeyPatch, name: str, query: str
) -> None:
    monkeypatch.setenv(f"SELLFLOW_{name.upper()}", f"postgresql://db/sellflow?{query}")
    with pytest.raises(ConfigurationError, match=rf"^SELLFLOW_{name.upper()}: .*PASSWORD instead") as caught:
        load_settings()
    assert PLANTED not in str(caught.value)


def test_an_address_without_credentials_is_taken_as_it_is() -> None:
    address = "postgresql://db:5432/sellflow?sslmode=require"
    settings = load_settings(database_session_url=address)
    assert settings.database_session_url == address
    assert not settings.embedded


def test_production_refuses_the_published_demo_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELLFLOW_ENVIRONMENT", "production")
    with pytest.raises(ConfigurationError, match="SELLFLOW_DEMO_APP_SECRET is the published demo secret") as caught:
        load_settings()
    assert packaged_defaults()["demo_app_secret"] not in str(caught.value)


@pytest.mark.parametrize("login", ["web", "worker", "ingest"])
def test_production_refuses_an_external_database_without_passwords(login: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SELLFLOW_DATABASE_{login.upper()}_PASSWORD is empty"):
        load_settings(**PRODUCTION | {f"database_{login}_password": ""})


def test_production_names_everything_that_is_unsafe_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment="production", database_session_url="postgresql://db/sellflow")
    named = re.findall(r"SELLFLOW_[A-Z_]+(?= is )", str(caught.value))
    assert named == [
        "SELLFLOW_DEMO_APP_SECRET",
        "SELLFLOW_DATABASE_WEB_PASSWORD",
        "SELLFLOW_DATABASE_WORKER_PASSWORD",
        "SELLFLOW_DATABASE_INGEST_PASSWORD",
        "SELLFLOW_DATABASE_ADMIN_PASSWORD",
    ]


def test_production_starts_with_what_is_safe() -> None:
    assert load_settings(**PRODUCTION).environment == "production"
    assert load_settings(environment="production", demo_app_secret="my own").embedded


def test_every_password_and_secret_is_a_secret_field() -> None:
    named_like_one = sorted(name for name in Settings.model_fields if re.search("password|secret", name))
    assert named_like_one == SECRETS


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_shown_nowhere(name: str) -> None:
    settings = load_settings(**{name: PLANTED})
    assert getattr(settings, name).get_secret_value() == PLANTED
    shown = [repr(settings), str(settings), f"{settings}", str(settings.model_dump()), settings.model_dump_json()]
    assert not [text for text in shown if PLANTED in text]


@pytest.mark.parametrize("name", SECRETS)
def test_a_malformed_setting_beside_a_secret_does_not_show_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"SELLFLOW_{name.upper()}", PLANTED)
    monkeypatch.setenv("SELLFLOW_WEB_PORT", "eighty")
    monkeypatch.setenv("SELLFLOW_ENVIRONMENT", "production")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert PLANTED not in whole_trace(caught.value)


@pytest.mark.parametrize("name", SECRETS)
def test_an_unsafe_setting_beside_a_secret_does_not_show_it(name: str) -> None:
    values = {"environment": "production", "database_session_url": "postgresql://db/sellflow", name: PLANTED}
    with pytest.raises(ConfigurationError, match="unsafe") as caught:
        load_settings(**values)
    assert PLANTED not in whole_trace(caught.value)
