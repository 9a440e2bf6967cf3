"""Label mode: the weak model writes labels, and filters decide which of them are used."""
