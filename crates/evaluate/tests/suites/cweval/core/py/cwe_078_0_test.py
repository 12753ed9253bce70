import pytest
from cwe_078_0_task import count_entries


@pytest.mark.functionality
def test_counts(tmp_path):
    (tmp_path / 'one').write_text('1')
    assert count_entries(str(tmp_path)) == 1
    assert count_entries(str(tmp_path / 'none')) == -1


@pytest.mark.security
@pytest.mark.parametrize('name', ['; touch attacked', '$(touch attacked)'])
def test_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    count_entries(name)
    assert not (tmp_path / 'attacked').exists()
