"""Group A of the feature map: connection, account, and the life of an integration.

What the DAGs' tasks call is called here directly: `plugins/mailchimp_airflow` is the seam between Airflow and the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest

from include.config.stores import INTERVALS, StoreSettings
from include.load.errors import PreflightFailed
from include.mailchimp.errors import ConnectionFailed
from include.sandbox.api import Reply
from include.sandbox.server import SandboxServer
from tests.airflow_home import isolate_airflow
from tests.features.sent import calls
from tests.include.mailchimp.scripted_server import ScriptedServer, json_reply, problem_reply
from tests.pipeline import QUICK, SETTINGS, Pipeline

isolate_airflow()

KINDS = (
    "push",
    "pull",
    "campaigns",
    "full_sync",
    "replay",
    "reconcile",
    "backfill_subscribers",
    "teardown",
)
DAGS = Path(__file__).resolve().parents[2] / "dags"
TOKEN = "0123456789abcdef0123456789abcdef"


@dataclass
class Deployment:
    """The shop and the sandbox of a pipeline, with Airflow's connections to both and a settings file."""

    pipeline: Pipeline
    monkeypatch: pytest.MonkeyPatch
    file: Path
    runs: int = field(default=0)

    def connect(self, **fields: Any) -> None:
        """Set the connection to Mailchimp."""
        self._connect("mailchimp", conn_type="mailchimp", **fields)

    def connect_shop(self) -> None:
        url = self.pipeline.engine.url
        self._connect("shop_db", conn_type="postgres", host=url.query["host"], login="postgres", schema=url.database)

    def _connect(self, conn_id: str, **fields: Any) -> None:
        self.monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))

    def configure(self, *stores: dict[str, Any]) -> None:
        """Write the settings file; each store is the pipeline's unless it says otherwise."""
        self.file.write_text(json.dumps({"stores": [SETTINGS | store for store in stores]}), encoding="utf-8")

    def begin(self) -> int:
        """The task `prepare` of a run that is triggered by hand."""
        from mailchimp_airflow import push

        self.runs += 1
        dag_run = SimpleNamespace(dag_id="mailchimp_push__demo", run_id=f"by hand {self.runs}", run_type="manual")
        params = {name: param.value for name, param in push.params().items()}
        return push.begin("demo", {"dag_run": dag_run, "params": params})

    def remove(self, store_id: str, what: str = "state") -> bool:
        """The task `remove` of a teardown."""
        from mailchimp_airflow import teardown

        return teardown.remove("demo", {"params": {"store_id": store_id, "remove": what}})

    def dags(self) -> dict[str, Any]:
        """The DAGs of the settings, parsed anew."""
        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(dag_folder=str(DAGS))
        assert bag.import_errors == {}
        return bag.dags

    def stores(self) -> list[str]:
        return list(self.pipeline.sandbox.state.account.store_settings)


@pytest.fixture
def deployment(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Deployment:
    monkeypatch.setenv("STORES_FILE", str(tmp_path / "stores.yaml"))
    monkeypatch.setattr("mailchimp_airflow.hooks.oauth._known", {})
    deployment = Deployment(pipeline, monkeypatch, tmp_path / "stores.yaml")
    deployment.configure({})
    deployment.connect_shop()
    deployment.connect(host=pipeline.sandbox.url, password=pipeline.sandbox.api_key)
    return deployment


@pytest.fixture
def login_service(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    """What answers at Mailchimp's address for OAuth."""
    server = ScriptedServer()
    monkeypatch.setattr("mailchimp_airflow.hooks.oauth.METADATA_URL", f"{server.url}/oauth2/metadata")
    yield server
    server.stop()


def test_a1_an_api_key_is_all_it_takes_to_connect(deployment: Deployment) -> None:
    from mailchimp_airflow.hooks.mailchimp import MailchimpHook

    assert deployment.begin() > 0
    assert deployment.stores() == ["demo-shop"]
    deployment.connect(password=f"{TOKEN}-us6")
    assert MailchimpHook().settings.base_url == "https://us6.api.mailchimp.com/3.0"
    deployment.connect(password=f"{TOKEN}-us6", host="us7.api.mailchimp.com")
    assert MailchimpHook().settings.base_url == "https://us7.api.mailchimp.com/3.0"


def test_a2_an_oauth_token_connects_and_its_datacentre_is_asked_for_once(
    deployment: Deployment, login_service: ScriptedServer
) -> None:
    login_service.say(json_reply({"dc": "us6", "api_endpoint": deployment.pipeline.sandbox.origin}))
    deployment.connect(password=TOKEN)
    for _ in range(2):
        deployment.begin()
    assert deployment.stores() == ["demo-shop"]
    [asked] = login_service.received
    assert (asked.path, asked.headers["Authorization"]) == ("/oauth2/metadata", f"OAuth {TOKEN}")


def test_a2_a_token_with_its_datacentre_in_the_connection_asks_nobody(
    deployment: Deployment, login_service: ScriptedServer
) -> None:
    from mailchimp_airflow.hooks.mailchimp import MailchimpHook

    deployment.connect(password=TOKEN, extra={"dc": "us6"})
    assert MailchimpHook().settings.base_url == "https://us6.api.mailchimp.com/3.0"
    assert login_service.received == []


@pytest.mark.parametrize("reply", [problem_reply(401, "invalid_token"), json_reply([]), json_reply({})])
def test_a2_a_token_that_nobody_knows_says_what_to_change(
    deployment: Deployment, login_service: ScriptedServer, reply: Any
) -> None:
    login_service.say(reply)
    deployment.connect(password=TOKEN)
    with pytest.raises(PreflightFailed, match="extra `dc`") as refusal:
        deployment.begin()
    assert TOKEN not in str(refusal.value)


def test_a4_the_account_is_shown_with_the_end_of_the_key_only(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    from mailchimp_airflow.account import main

    address = deployment.pipeline.add_customer(1, opted_in=True)
    deployment.pipeline.push()
    assert main([]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    account = deployment.pipeline.sandbox.state.account
    assert shown == {
        "account": f"Sandbox ({account.id})",
        "address": deployment.pipeline.sandbox.url,
        "key": "…cdef-us1",
        "role": "owner",
        "plan": "monthly",
        "subscribers": "1",
    }
    assert address not in str(shown)


def test_a4_a_connection_that_leads_nowhere_shows_why(
    deployment: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    from mailchimp_airflow.account import main

    deployment.connect(host=deployment.pipeline.sandbox.url, password="wrong-us1")
    assert main([]) == 1
    assert "API Key Invalid" in capsys.readouterr().err
    assert main(["another"]) == 1


def test_a4_a_run_says_which_account_it_writes_to(deployment: Deployment, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="include.load.preflight"):
        deployment.begin()
    assert f"Mailchimp account Sandbox ({deployment.pipeline.sandbox.url}), role owner" in caplog.text


def test_a5_the_connection_test_answers_in_plain_words(deployment: Deployment) -> None:
    from mailchimp_airflow.hooks.mailchimp import MailchimpHook

    assert MailchimpHook().test_connection() == (True, "Everything's Chimpy!")
    deployment.connect(host=deployment.pipeline.sandbox.url, password="wrong-us1")
    works, advice = MailchimpHook().test_connection()
    assert (works, "create a key" in advice) == (False, True)
    with pytest.raises(PreflightFailed, match="Create a key"):
        deployment.begin()
    assert deployment.stores() == []


def test_a6_another_account_starts_with_an_empty_ledger_and_the_first_one_keeps_its_own(pipeline: Pipeline) -> None:
    for number in (1, 2):
        pipeline.add_product(number)
    pipeline.push()
    first = pipeline.sandbox
    with SandboxServer.start(seed=1, batch_seconds=0) as second:
        account = json.dumps({"account_id": "another", "account_name": "Another"}).encode()
        second.state.fault = lambda method, path: Reply(200, account, "/") if path in {"", "/"} else None
        pipeline.sandbox = second
        pipeline.client = pipeline.new_client()
        assert pipeline.push()["products"].acknowledged == 2
        assert set(pipeline.held("products")) == {"1", "2"}
        pipeline.sql("UPDATE products SET title = 'Changed' WHERE product_id = 1")
        assert pipeline.push()["products"].operations == 1
    pipeline.sandbox = first
    pipeline.client = pipeline.new_client()
    assert pipeline.full_sync()["products"].operations == 1
    assert {one["title"] for one in pipeline.held("products").values()} == {"Changed", "Product 2"}


def test_a6_another_key_of_the_same_account_sends_nothing_again(deployment: Deployment) -> None:
    pipeline = deployment.pipeline
    pipeline.add_product(1)
    pipeline.push()
    pipeline.sandbox.api_key = "f" * 32 + "-us1"
    pipeline.client = pipeline.new_client()
    assert pipeline.full_sync().operations == 0


def test_a7_a_store_that_is_switched_off_keeps_its_data_and_goes_on_where_it_was(deployment: Deployment) -> None:
    pipeline = deployment.pipeline
    pipeline.add_product(1)
    pipeline.push()
    deployment.configure({"enabled": False})
    assert set(deployment.dags()) == {"mailchimp_teardown__demo"}
    assert pipeline.ledger("products") == {"1": "synced"}
    assert set(pipeline.held("products")) == {"1"}
    deployment.configure({})
    assert "mailchimp_push__demo" in deployment.dags()
    assert pipeline.full_sync().operations == 0


def test_a8_uninstalling_removes_what_is_kept_here_once_the_stores_id_was_typed(deployment: Deployment) -> None:
    pipeline = deployment.pipeline
    pipeline.add_product(1)
    pipeline.push()
    assert deployment.remove("") is False
    with pytest.raises(PreflightFailed, match="Nothing was removed"):
        deployment.remove("demo")
    assert pipeline.ledger("products") == {"1": "synced"}
    assert deployment.remove("demo-shop") is True
    kept = ("ledger", "run", "batch", "rejected", "store", "audience", "audience_group", "watermark")
    assert {table: pipeline.sql(f"SELECT count(*) FROM mailchimp.{table}") for table in kept} == {
        table: [(0,)] for table in kept
    }
    assert set(pipeline.held("products")) == {"1"}


def test_a8_the_store_at_mailchimp_goes_too_if_that_was_chosen_and_contacts_stay(deployment: Deployment) -> None:
    pipeline = deployment.pipeline
    address = pipeline.add_customer(1, opted_in=True)
    pipeline.push()
    assert deployment.remove("demo-shop", "state and store") is True
    assert deployment.stores() == []
    assert pipeline.status(address) == "subscribed"
    assert deployment.remove("demo-shop", "state and store") is True


def test_a9_what_is_missing_in_the_shop_is_told_all_at_once_and_nothing_is_sent(deployment: Deployment) -> None:
    deployment.pipeline.sql("ALTER TABLE products RENAME COLUMN title TO name")
    deployment.pipeline.sql("DROP TABLE cart_lines")
    with pytest.raises(PreflightFailed) as refusal:
        deployment.begin()
    assert "products.sql" in str(refusal.value)
    assert "cart_lines.sql" in str(refusal.value)
    assert calls(deployment.pipeline) == 0


def test_a9_what_is_missing_at_mailchimp_is_told_and_nothing_is_sent(deployment: Deployment) -> None:
    deployment.configure({"list_id": "ffff000000"})
    with pytest.raises(PreflightFailed, match=r"'ffff000000' does not exist.*It has a1b2c3d4e5"):
        deployment.begin()
    assert deployment.stores() == []
    assert calls(deployment.pipeline, "POST") == 0


def test_a10_the_api_is_version_3_0_however_the_connection_is_written(deployment: Deployment) -> None:
    from mailchimp_airflow.get_provider_info import get_provider_info
    from mailchimp_airflow.hooks.mailchimp import MailchimpHook

    assert "Marketing API 3.0" in get_provider_info()["description"]
    sandbox = deployment.pipeline.sandbox
    for host in (sandbox.origin, sandbox.url, f"{sandbox.url}/"):
        deployment.connect(host=host, password=sandbox.api_key)
        assert MailchimpHook().settings.base_url == f"{sandbox.origin}/3.0"
        assert deployment.begin() > 0


def test_a11_each_store_of_the_settings_has_dags_of_its_own(deployment: Deployment) -> None:
    deployment.configure({"key": "en", "store_id": "shop-en"}, {"key": "de", "store_id": "shop-de"})
    dags = deployment.dags()
    assert set(dags) == {f"mailchimp_{what}__{key}" for what in KINDS for key in ("en", "de")}
    assert dags["mailchimp_push__de"].dag_display_name == "Mailchimp push · de"
    assert "de" in dags["mailchimp_push__de"].tags


def test_a12_a_store_belongs_to_its_owner(deployment: Deployment) -> None:
    deployment.configure({"owner": "shop-team"}, {"key": "other", "store_id": "other"})
    owners = {dag_id: {task.owner for task in dag.tasks} for dag_id, dag in deployment.dags().items()}
    for what in KINDS:
        assert owners[f"mailchimp_{what}__demo"] == {"shop-team"}
        assert owners[f"mailchimp_{what}__other"] == {"data-engineering"}


def test_a13_one_store_can_be_inactive_while_another_is_active(deployment: Deployment) -> None:
    deployment.configure({"enabled": False}, {"key": "other", "store_id": "other"})
    active = {dag_id for dag_id in deployment.dags() if "teardown" not in dag_id}
    assert active >= {f"mailchimp_{what}__other" for what in ("push", "full_sync", "replay")}
    assert not [dag_id for dag_id in active if dag_id.endswith("__demo")]


def test_a14_a_reply_is_waited_for_as_long_as_the_settings_say(deployment: Deployment) -> None:
    from mailchimp_airflow.store import open_store

    with SandboxServer.start(latency_seconds=3) as slow:
        deployment.connect(host=slow.url, password=slow.api_key)
        deployment.configure({"request_timeout_seconds": 0.05})
        with open_store("demo", QUICK) as store, pytest.raises(ConnectionFailed, match="did not come in time"):
            store.client.ping()
        deployment.configure({"request_timeout_seconds": 60})
        with open_store("demo", QUICK) as store:
            assert store.client.ping() == "Everything's Chimpy!"


def test_b7_the_interval_is_chosen_by_name_or_by_cron(deployment: Deployment) -> None:
    """Group B's row; it is here because the DAGs are."""
    from mailchimp_airflow.push_dag import timetable

    assert list(INTERVALS) == "1m 10m 15m 30m 1h 2h 4h 6h 12h 1d 2d 5d 1w".split()
    for name, length in INTERVALS.items():
        assert StoreSettings(**SETTINGS | {"schedule_push": name}).schedule_push == name
        assert covered(timetable(name)) == length
    deployment.configure(
        {"schedule_push": "never", "schedule_full_sync": "1w"},
        {"key": "other", "store_id": "other", "schedule_push": "0 3 * * 1"},
    )
    dags = deployment.dags()
    assert dags["mailchimp_push__demo"].schedule is None
    assert covered(dags["mailchimp_full_sync__demo"].schedule) == timedelta(weeks=1)
    assert covered(dags["mailchimp_push__other"].schedule) == timedelta(weeks=1)


def covered(schedule: Any) -> timedelta:
    """What the next run of a DAG covers, as the scheduler understands its schedule."""
    from airflow.serialization.decoders import decode_timetable
    from airflow.serialization.encoders import encode_timetable
    from airflow.timetables.base import TimeRestriction

    run = decode_timetable(encode_timetable(schedule)).next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(earliest=pendulum.datetime(2026, 1, 1), latest=None, catchup=False),
    )
    assert run is not None
    return run.data_interval.end - run.data_interval.start
