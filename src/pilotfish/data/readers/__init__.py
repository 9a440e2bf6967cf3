"""Read raw records from files, folders, archives and hub datasets."""
