"""What merchants may: plans, which shop has which, how it pays for it, and what it uses."""
