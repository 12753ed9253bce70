def rows(db, name):
    # the rows with this name
    return db.execute(