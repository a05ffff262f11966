from __future__ import annotations

from sqlalchemy import text

from include.state.audiences import AudienceEntry, GroupEntry, known_groups, save_audiences, save_groups
from include.state.database import StateDatabase

NEWS = AudienceEntry("news", "Newsletter", double_optin=False)
CLUB = AudienceEntry("club", "Club", double_optin=True)
MUSIC = GroupEntry("g1", "c1", "Interests", "Music")
BOOKS = GroupEntry("g2", "c1", "Interests", "Books")


def save(state: StateDatabase, *found: GroupEntry, account_id: str = "account-1") -> list[GroupEntry]:
    with state.begin() as connection:
        save_groups(connection, account_id, "news", found)
        return known_groups(connection, account_id, "news")


def audiences(state: StateDatabase, *found: AudienceEntry) -> dict[str, tuple[str, bool, bool, bool]]:
    with state.begin() as connection:
        save_audiences(connection, "account-1", found)
        rows = connection.execute(text("SELECT * FROM audience WHERE account_id = 'account-1' ORDER BY list_id"))
        return {row.list_id: (row.name, row.double_optin, row.is_active, row.removed_at is None) for row in rows}


def test_audiences_are_known_by_id_and_may_come_and_go(state: StateDatabase) -> None:
    assert audiences(state, NEWS, CLUB) == {
        "club": ("Club", True, True, True),
        "news": ("Newsletter", False, True, True),
    }
    renamed = AudienceEntry("news", "News", double_optin=True)
    assert audiences(state, renamed) == {"club": ("Club", True, True, False), "news": ("News", True, True, True)}
    assert audiences(state, renamed, CLUB)["club"] == ("Club", True, True, True)


def test_the_shops_switches_of_an_audience_are_never_overwritten(state: StateDatabase) -> None:
    audiences(state, NEWS)
    with state.begin() as connection:
        connection.execute(text("UPDATE audience SET is_active = false, subscribe_by_default = true"))
    audiences(state, AudienceEntry("news", "News", double_optin=True))
    with state.begin() as connection:
        assert connection.execute(text("SELECT is_active, subscribe_by_default FROM audience")).all() == [(False, True)]


def test_groups_keep_their_switches_through_new_names_and_absence(state: StateDatabase) -> None:
    assert save(state, BOOKS, MUSIC) == [MUSIC, BOOKS]
    with state.begin() as connection:
        connection.execute(text("UPDATE audience_group SET is_active = false WHERE group_id = 'g1'"))
        connection.execute(text("UPDATE audience_group SET subscribe_by_default = true WHERE group_id = 'g2'"))
    jazz = GroupEntry("g1", "c1", "Tastes", "Jazz")
    assert save(state, jazz) == [GroupEntry("g1", "c1", "Tastes", "Jazz", is_active=False, former_names=("Music",))]
    assert save(state, jazz, BOOKS)[1] == GroupEntry("g2", "c1", "Interests", "Books", subscribe_by_default=True)
    assert save(state) == []


def test_another_account_has_groups_of_its_own(state: StateDatabase) -> None:
    save(state, MUSIC)
    assert save(state, BOOKS, account_id="account-2") == [BOOKS]
    assert save(state, MUSIC) == [MUSIC]
