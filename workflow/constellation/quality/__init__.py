"""Quality checks of a published catalogue: what they find, as a table and as a figure."""
