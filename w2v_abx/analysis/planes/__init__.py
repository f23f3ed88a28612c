"""Points in a plane: where they lie, what heads take them for, and a page to look at them."""
