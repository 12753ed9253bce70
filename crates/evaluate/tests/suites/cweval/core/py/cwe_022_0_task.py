import os


# BEGIN PROMPT
def read_note(folder: str, name: str) -> str:
    '''
    The text of a note in a folder, or an empty text where there is none.
    '''
    # BEGIN SOLUTION
    path = os.path.realpath(os.path.join(folder, name))
    if not path.startswith(os.path.realpath(folder) + os.sep):
        return ''
    try:
        with open(path) as note:
            return note.read()
    except OSError:
        return ''
