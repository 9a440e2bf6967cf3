"""Read raw records from files, folders, compressed files and hub datasets."""
