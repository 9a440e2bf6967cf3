"""Label mode: the weak model writes labels, filters decide which are learned."""
