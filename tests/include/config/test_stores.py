from __future__ import annotations

from pathlib import Path

import pytest

from include.config.stores import SettingsError, StoreSettings, load_stores

MINIMAL = """
stores:
  - key: demo
    store_id: demo-shop
    list_id: a1b2c3d4e5
    profile: reference
"""


def written(folder: Path, content: str) -> Path:
    path = folder / "stores.yaml"
    path.write_text(content)
    return path


def problems(folder: Path, content: str) -> tuple[str, ...]:
    path = written(folder, content)
    with pytest.raises(SettingsError) as error:
        load_stores(path)
    assert str(path) in str(error.value)
    return error.value.problems


def test_the_shipped_file_holds_the_demo_store_with_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORES_FILE", raising=False)
    settings = load_stores()
    assert settings.state_schema == "mailchimp"
    assert settings.store("demo") == StoreSettings(
        key="demo",
        store_id="demo-shop",
        list_id="a1b2c3d4e5",
        profile="reference",
        checkout_url_template="https://completejourney-shop.dev/checkout/{checkout_token}",
    )


def test_the_environment_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORES_FILE", str(written(tmp_path, MINIMAL.replace("demo-shop", "other"))))
    assert load_stores().store("demo").store_id == "other"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.yaml: there is no such file; .*STORES_FILE"):
        load_stores(tmp_path / "nowhere.yaml")


def test_every_setting_is_described_and_all_but_the_identity_have_defaults() -> None:
    assert all(field.description for field in StoreSettings.model_fields.values())
    required = {name for name, field in StoreSettings.model_fields.items() if field.is_required()}
    assert required == {"key", "store_id", "list_id", "profile"}


def test_an_unknown_setting_is_told_with_file_store_and_closest_name(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, MINIMAL + "    batch_opertions: 5\n")
    assert problem == (
        "store 'demo', setting 'batch_opertions': there is no such setting; did you mean 'batch_operations'?"
    )


def test_an_unknown_setting_of_the_file_is_told(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, MINIMAL + "state_shema: x\n")
    assert problem == "setting 'state_shema': there is no such setting; did you mean 'state_schema'?"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("max_connections: 11", "setting 'max_connections': input should be less than or equal to 10; found 11"),
        ("guests: maybe", "setting 'guests': input should be 'first_name_only', 'full' or 'skip'; found 'maybe'"),
        ("enabled: 1", "setting 'enabled': input should be a valid boolean; found 1"),
        ("schedule_push: hourly", "setting 'schedule_push': is no cron expression"),
        ("product_url_template: https://shop/{slug}", "placeholder other than {product_id} and {handle}"),
        ("product_url_template: https://shop/", "has none of the placeholders"),
        ("order_statuses: []", "setting 'order_statuses': list should have at least 1 item"),
    ],
)
def test_a_wrong_value_is_told(tmp_path: Path, line: str, told: str) -> None:
    (problem,) = problems(tmp_path, f"{MINIMAL}    {line}\n")
    assert problem.startswith("store 'demo', setting ")
    assert told in problem


@pytest.mark.parametrize("value", ["never", "null"])
def test_no_schedule(tmp_path: Path, value: str) -> None:
    path = written(tmp_path, f"{MINIMAL}    schedule_push: {value}\n")
    assert load_stores(path).store("demo").schedule_push is None


def test_all_problems_are_told_in_one_error(tmp_path: Path) -> None:
    found = problems(tmp_path, "stores:\n  - store_id: x\n    list_id: ''\n    profile: reference\n")
    assert found[0] == "store number 1, setting 'key': is missing and has no default"
    assert len(found) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "setting 'stores': is missing"),
        ("stores: []", "at least 1 item"),
        ("stores: [a]", "store number 1"),
        ("- a", "holds a list"),
        ("stores: [", "line 1"),
        (MINIMAL + "    key: again\n", "line 7, column 5: 'key' is given twice"),
    ],
)
def test_a_file_of_another_shape_is_told(tmp_path: Path, content: str, told: str) -> None:
    (problem,) = problems(tmp_path, content)
    assert told in problem


def test_stores_need_their_own_keys_and_ids(tmp_path: Path) -> None:
    second = MINIMAL.replace("\nstores:", "")
    assert "2 stores have the key 'demo'" in problems(tmp_path, MINIMAL + second)[0]
    other_key = second.replace("key: demo", "key: other")
    assert "2 stores have the store_id 'demo-shop'" in problems(tmp_path, MINIMAL + other_key)[0]
    other_account = other_key + "    mailchimp_conn_id: mailchimp_two\n"
    assert len(load_stores(written(tmp_path, MINIMAL + other_account)).stores) == 2


def test_an_unknown_store_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STORES_FILE", raising=False)
    with pytest.raises(KeyError, match="did you mean 'demo'"):
        load_stores().store("demos")
