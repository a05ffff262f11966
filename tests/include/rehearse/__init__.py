import pytest

pytest.register_assert_rewrite("tests.include.rehearse.rehearsals")
