"""Who is calling, and in what form they are answered."""
