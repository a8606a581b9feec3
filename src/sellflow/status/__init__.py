"""The page at "/": what runs, what happens, and what it came to."""
