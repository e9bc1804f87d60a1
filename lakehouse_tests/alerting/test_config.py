"""An alerts file is read whole, or refused with its line, its field and what to do. Its secrets come from elsewhere."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from lakehouse.alerting.config import load_alerts
from lakehouse.alerting.schema import Email, Slack, Webhook
from lakehouse.errors import LakehouseError
from lakehouse.settings import Settings
from lakehouse_tests.alerting.conftest import Alerts

TEAM = '[receivers.team]\nkind = "webhook"\nurl = "http://127.0.0.1:9/x"\n'
RULE = TEAM + '[[rules]]\nreceivers = ["team"]\n'
MAIL = '[receivers.a]\nkind = "email"\nhost = "h"\n'
HOOK = '[receivers.a]\nkind = "webhook"\n'


def _refusal(tmp_path: Path, text: str) -> str:
    file = tmp_path / "alerts.toml"
    file.write_text(text)
    with pytest.raises(LakehouseError) as raised:
        load_alerts(Settings(home=tmp_path, alerts=file), ("iot", "retail"))
    return str(raised.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x =", "can't be read as TOML"),
        ("", "line 1: the file is wrong: Object missing required field `receivers`."),
        ("[receivers]\n", "line 1: receivers has none; write a table such as [receivers.team] with kind and url."),
        (TEAM + "[[rule]]\n", "line 4: rule is wrong: Object contains unknown field `rule`."),
        ('repeat_minutes = 0\n' + TEAM, "line 1: repeat_minutes must be more than 0 minutes, and at most a year."),
        ('[receivers.a]\nkind = "fax"\n', "line 2: receivers.a.kind must be one of slack, teams, pagerduty, email, webhook."),
        ('[receivers.a]\nurl = "http://x"\n', "line 1: receivers.a.kind must be one of slack, teams,"),
        (HOOK, "line 1: receivers.a is wrong: Object missing required field `url`."),
        (HOOK + 'url = "x"\n', "line 3: receivers.a.url must be a URL that begins with https://"),
        (HOOK + 'url = "http://u:p@x"\n', "line 3: receivers.a.url is a secret; set it as a variable, such as A_URL,"),
        (TEAM + 'verb = "PUT"\n', "line 4: receivers.team.verb is wrong: Object contains unknown field `verb`."),
        (TEAM + 'headers = {Authorization = "Bearer x"}\n', "line 4: receivers.team.headers.Authorization is a secret;"),
        (TEAM + 'headers = {X-Team = 1}\n', "line 4: receivers.team.headers[...] is wrong: Expected `str`, got `int`."),
        ('[receivers.a]\nkind = "slack"\nurl = "https://hooks.slack.com/x"\n', 'write "${A_URL}" here.'),
        ('[receivers.a]\nkind = "slack"\nurl = "${NO_SUCH}"\n', "names the variable 'NO_SUCH', which is not set;"),
        (MAIL + 'from = "x"\nto = ["a@b"]\n', "line 4: receivers.a.from must be addresses such as"),
        (MAIL + 'from = "x@y"\nto = []\n', "line 5: receivers.a.to must be addresses"),
        (MAIL + 'from = "x@y"\nto = ["a@b\\nBcc: c@d"]\n', "line 5: receivers.a.to must be addresses"),
        (MAIL + 'from = "x@y"\nto = ["a@b"]\nport = 0\n', "line 6: receivers.a.port must be from 1"),
        (MAIL + 'from = "x@y"\nto = ["a@b"]\nuser = "u"\n', "line 6: receivers.a.user and password go together"),
        (MAIL + 'from = "x@y"\nto = ["a@b"]\nuser = "u"\npassword = "${HOME}"\nsecurity = "none"\n',
         "line 8: receivers.a.security is none, so the password would be readable on its way"),
        (TEAM + '[[rules]]\nreceivers = ["taem"]\n', "line 5: rules[0].receivers names taem; there are team."),
        (TEAM + '[[rules]]\nreceivers = []\n', "line 5: rules[0].receivers is empty; name some, or leave the line out."),
        (RULE + '[[rules]]\nreceivers = ["team"]\nstreams = ["itm"]\n',
         "line 8: rules[1].streams names itm; there are iot, retail."),
        (RULE + 'severity = "bad"\n', "line 6: rules[0].severity is wrong: Invalid enum value 'bad'."),
        (RULE + 'causes = ["run_failed"]\n', "line 6: rules[0].causes[0] is wrong: Invalid enum value"),
        (RULE + 'hours = "9-17"\n', "line 6: rules[0].hours '9-17' is not two times of a day"),
        (RULE + 'timezone = "Mars"\n', "line 6: rules[0].timezone is no zone"),
        (RULE + 'repeat_minutes = nan\n', "line 6: rules[0].repeat_minutes must be more than 0"),
        ("rules = 3\n" + TEAM, "line 1: rules is wrong: Expected `array`, got `int`."),
    ],
)  # fmt: skip
def test_wrong_file_is_refused_with_line_field_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    assert message in _refusal(tmp_path, text)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LakehouseError, match=r"nowhere.toml: can't be read"):
        load_alerts(Settings(home=tmp_path, alerts=tmp_path / "nowhere.toml"), ())


def test_secrets_come_from_variables_and_are_never_shown(
    alerts: Alerts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_PART", "T0/secret-1")
    text = '[receivers.a]\nkind = "slack"\nurl = "https://hooks.slack.com/${SLACK_PART}"\n'
    settings, config = alerts(text)
    assert config.receivers == {"a": Slack("https://hooks.slack.com/T0/secret-1")}
    assert config.redact("POST https://hooks.slack.com/T0/secret-1 failed") == "POST https://hooks.slack.com/*** failed"
    named = settings.model_copy(update={"alert_secrets": SecretStr('{"SLACK_PART": "from-secret"}')})
    config = load_alerts(named, ()) or config
    assert config.receivers == {"a": Slack("https://hooks.slack.com/from-secret")}
    assert "from-secret" not in repr(named)
    broken = settings.model_copy(update={"alert_secrets": SecretStr('{"SLACK_PART": "from-sec')})
    with pytest.raises(LakehouseError, match="LAKEHOUSE_ALERT_SECRETS must be a JSON object") as raised:
        load_alerts(broken, ())
    assert "from-sec" not in str(raised.value)


def test_without_rules_every_receiver_gets_every_cause(alerts: Alerts) -> None:
    _, config = alerts(TEAM)
    (rule,) = config.rules
    assert rule.receivers == ("team",)
    assert all(rule.matches(kind, "info", None, None) for kind in ("run_failure", "stream_alert", "process_down"))


def test_each_address_of_an_email_receiver_has_its_own_queue(alerts: Alerts) -> None:
    _, config = alerts(
        '[receivers.mail]\nkind = "email"\nhost = "h"\nfrom = "x@y"\nto = ["a@b", "c@d"]\n'
        '[[rules]]\nreceivers = ["mail"]\nseverity = "critical"\n'
    )
    assert {name: receiver.to for name, receiver in config.receivers.items() if isinstance(receiver, Email)} == {
        "mail a@b": ("a@b",),
        "mail c@d": ("c@d",),
    }
    assert [rule.receivers for rule in config.rules] == [("mail a@b", "mail c@d")]


def test_rule_chooses_by_cause_severity_stream_and_owner(alerts: Alerts) -> None:
    _, config = alerts(
        TEAM
        + '[[rules]]\nreceivers = ["team"]\ncauses = ["data_late"]\nseverity = "warning"\nstreams = ["iot"]\nowners = ["ops"]\n'
    )
    (rule,) = config.rules
    assert rule.matches("data_late", "warning", "iot", "ops")
    assert rule.matches("data_late", "critical", "iot", "ops")
    assert not rule.matches("run_failure", "warning", "iot", "ops")
    assert not rule.matches("data_late", "info", "iot", "ops")
    assert not rule.matches("data_late", "warning", "retail", "ops")
    assert not rule.matches("data_late", "warning", "iot", "sales")
    assert not rule.matches("data_late", "warning", None, None)


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        ("08:00-18:00", "2026-07-01T08:00+00:00", "2026-07-01T08:00+00:00"),  # 10:00 in Berlin, a Wednesday
        ("08:00-18:00", "2026-07-01T05:59+00:00", "2026-07-01T06:00+00:00"),
        ("08:00-18:00", "2026-07-01T16:00+00:00", "2026-07-02T06:00+00:00"),
        ("08:00-18:00", "2026-07-03T16:00+00:00", "2026-07-06T06:00+00:00"),  # Friday evening
        ("08:00-18:00", "2026-03-28T12:00+00:00", "2026-03-30T06:00+00:00"),  # the clocks change on Sunday
        ("22:00-06:00", "2026-07-04T03:00+00:00", "2026-07-04T03:00+00:00"),  # Friday's night lasts until Saturday
        ("22:00-06:00", "2026-07-04T04:00+00:00", "2026-07-06T20:00+00:00"),
    ],
)
def test_hours_open_in_their_zone(alerts: Alerts, hours: str, now: str, opens: str) -> None:
    _, config = alerts(
        TEAM + f'[[rules]]\nreceivers = ["team"]\nhours = "{hours}"\ndays = ["mon", "tue", "wed", "thu", "fri"]\n'
        'timezone = "Europe/Berlin"\n'
    )
    assert config.rules[0].hours.next_open(datetime.fromisoformat(now)) == datetime.fromisoformat(opens).astimezone(UTC)


def test_webhook_url_alone_receives_failed_runs(tmp_path: Path) -> None:
    assert load_alerts(Settings(home=tmp_path), ()) is None
    config = load_alerts(Settings(home=tmp_path, webhook_url="http://127.0.0.1:9/hook"), ())
    assert config is not None
    assert config.receivers == {"webhook_url": Webhook("http://127.0.0.1:9/hook")}
    assert config.rules[0].matches("run_failure", "warning", None, None)
    assert not config.rules[0].matches("data_late", "warning", None, None)
    with pytest.raises(LakehouseError, match="LAKEHOUSE_WEBHOOK_URL must be a URL"):
        load_alerts(Settings(home=tmp_path, webhook_url="ftp://x"), ())
