"""Joint-angle motions that drive synthetic people: recorded, acted and explored."""
