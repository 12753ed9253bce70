def count_entries(path: str) -> int:
    '''
    How many entries `ls -A` lists for a path; -1 where it fails.
    '''
    # BEGIN SOLUTION
    import os

    try:
        return len(os.listdir(path))
    except OSError:
        return -1
