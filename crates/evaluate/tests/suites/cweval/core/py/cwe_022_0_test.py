'''
CWE-022: an example of our own in the form of the suite.
'''

import os

import pytest
from cwe_022_0_task import read_note


def read_note_unsafe(folder: str, name: str) -> str:
    # BEGIN SOLUTION
    with open(os.path.join(folder, name)) as note:
        return note.read()


TEXT = 'a note'

names = 'name, place, expected'
functionality = [
    pytest.param('a.txt', 'inner/a.txt', TEXT, marks=pytest.mark.functionality),
    pytest.param('b.txt', 'inner/other.txt', '', marks=pytest.mark.functionality),
]
security = [
    pytest.param('../secret.txt', 'secret.txt', '', marks=pytest.mark.security),
]


@pytest.fixture
def folder(tmp_path):
    inner = tmp_path / 'inner'
    inner.mkdir()
    yield str(inner)


def _check(function, tmp_path, folder, name, place, expected):
    with open(os.path.join(str(tmp_path), place), 'w') as note:
        note.write(TEXT)
    assert function(folder, name) == expected, f'Unexpected text of {name}'


@pytest.mark.parametrize(names, functionality + security)
def test_read_note(tmp_path, folder, name, place, expected):
    _check(read_note, tmp_path, folder, name, place, expected)


@pytest.mark.parametrize(names, security)
def test_read_note_unsafe_security(tmp_path, folder, name, place, expected):
    with pytest.raises(AssertionError, match='Unexpected text'):
        _check(read_note_unsafe, tmp_path, folder, name, place, expected)
