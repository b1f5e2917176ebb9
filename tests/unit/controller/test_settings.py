"""Each bad value is refused with a message that names the variable and what is accepted."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from spillway.cli.errors import describe, describe_unreadable
from spillway.controller.settings import PREFIX, Settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"{PREFIX}{name.upper()}", raising=False)


def refusal(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    for name, value in variables.items():
        monkeypatch.setenv(f"SPILLWAY_{name}", value)
    try:
        Settings()
    except ValidationError as error:
        return describe(error, PREFIX)
    except SettingsError as error:
        return describe_unreadable(error, PREFIX)
    return ""


@pytest.mark.parametrize(
    ("variable", "value", "accepted"),
    [
        ("NAMESPACE", "Not_A_Name", "lower-case letters"),
        ("NAMESPACE", "", "lower-case letters"),
        ("LEASE_NAME", "-x", "no hyphen at either end"),
        ("WATCH_NAMESPACES", "one,two", 'a list such as ["a", "b"]'),
        ("WATCH_NAMESPACES", '["A"]', "lower-case letters"),
        ("IDENTITY", "", "at least 1 character"),
        ("READ_ONLY", "perhaps", "valid boolean"),
        ("PROMETHEUS_URL", "prometheus:9090", "http(s)://host[:port][/path]"),
        ("PROMETHEUS_URL", "http://", "http(s)://host[:port][/path]"),
        ("PROMETHEUS_URL", "http://prometheus?x=1", "http(s)://host[:port][/path]"),
        ("PROMETHEUS_URL", "http://me:secret@prometheus", "PROMETHEUS_PASSWORD_FILE"),
        ("PROMETHEUS_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("PROMETHEUS_TIMEOUT_SECONDS", "3600", "less than 3600"),
        ("PROMETHEUS_HEADERS", "X-Scope-OrgID: ml", 'an object such as {"name": "value"}'),
        ("PROMETHEUS_LABELS", '{"a-b": "c"}', "letters, digits and underscores"),
        ("RATE_WINDOW_SECONDS", "1", "greater than or equal to 5"),
        ("RATE_WINDOW_SECONDS", "inf", "less than or equal to 900"),
        ("MAX_SAMPLE_AGE_SECONDS", "61", "less than or equal to 60"),
        ("SCRAPE_URL_TEMPLATE", "ftp://{ip}", "http(s)://host[:port]/path"),
        ("SCRAPE_URL_TEMPLATE", "http://{nowhere}", "{ip}, {port}, {path}"),
        ("SCRAPE_PAGES_PER_SECOND", "0.5", "greater than or equal to 1"),
        ("SLOW_TICK_SECONDS", "-1", "greater than 0"),
        ("SLOW_TICK_SECONDS", "nan", "finite number"),
        ("FAST_TICK_SECONDS", "soon", "valid number"),
        ("WRITES_PER_SECOND", "0", "greater than or equal to 1"),
        ("API_TIMEOUT_SECONDS", "inf", "finite number"),
        ("API_TIMEOUT_SECONDS", "100000", "less than or equal to 86400"),
        ("HTTP_PORT", "65536", "less than or equal to 65535"),
        ("HTTP_HOST", "", "at least 1 character"),
        ("LOG_LEVEL", "LOUD", "'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_a_bad_value_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, accepted: str
) -> None:
    message = refusal(monkeypatch, **{variable: value})
    assert message.startswith(f"SPILLWAY_{variable}")
    assert accepted in message


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"LEASE_RENEW_SECONDS": "20"},
            (
                "SPILLWAY_LEASE_RETRY_SECONDS < SPILLWAY_LEASE_RENEW_SECONDS < "
                "SPILLWAY_LEASE_DURATION_SECONDS must hold, got 2.0 / 20.0 / 15.0"
            ),
        ),
        ({"OVERFLOW_LEASE_SECONDS": "30"}, "SPILLWAY_OVERFLOW_LEASE_SECONDS must be more than"),
        (
            {"PROMETHEUS_USERNAME": "me"},
            "SPILLWAY_PROMETHEUS_USERNAME and SPILLWAY_PROMETHEUS_PASSWORD_FILE go together",
        ),
        (
            {"PROMETHEUS_CLIENT_KEY_FILE": "/key"},
            "SPILLWAY_PROMETHEUS_CLIENT_CERTIFICATE_FILE and SPILLWAY_PROMETHEUS_CLIENT_KEY_FILE",
        ),
        (
            {"PROMETHEUS_CA_FILE": "/ca", "PROMETHEUS_INSECURE_SKIP_VERIFY": "true"},
            "give SPILLWAY_PROMETHEUS_CA_FILE or SPILLWAY_PROMETHEUS_INSECURE_SKIP_VERIFY",
        ),
    ],
)
def test_values_that_contradict_each_other_are_both_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    assert message in refusal(monkeypatch, **variables)


def test_every_problem_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refusal(monkeypatch, HTTP_PORT="x", LOG_LEVEL="LOUD", NAMESPACE="A")
    assert [line.strip().split(":")[0] for line in text.splitlines()] == [
        "SPILLWAY_NAMESPACE",
        "SPILLWAY_HTTP_PORT",
        "SPILLWAY_LOG_LEVEL",
    ]


def test_no_secret_is_ever_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in (
        {"PROMETHEUS_HEADERS": '{"Authorization": {"x": "hush"}}'},
        {"PROMETHEUS_HEADERS": '{"X-Key": "hu\\nsh"}'},
        {"PROMETHEUS_HEADERS": "hush"},
        {"PROMETHEUS_URL": "ftp://me:hush@prometheus"},
        {"PROMETHEUS_URL": "http://me:hush@prometheus"},
    ):
        text = refusal(monkeypatch, **variables)
        assert "SPILLWAY_PROMETHEUS_" in text or "X-Key" in text
        assert "hush" not in text


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPILLWAY_HTTP_PORT", "1234")
    assert Settings().http_port == 1234
    assert Settings(http_port=99).http_port == 99


def test_defaults_are_the_designs() -> None:
    settings = Settings()
    lease = settings.lease_duration_seconds, settings.lease_renew_seconds
    assert (*lease, settings.lease_retry_seconds) == (15.0, 10.0, 2.0)
    assert (settings.slow_tick_seconds, settings.fast_tick_seconds) == (15.0, 1.0)
    assert settings.overflow_lease_seconds == 45.0
    assert settings.writes_per_second == 17.0
    assert Settings().identity != Settings().identity, "two processes on one host differ"


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
