"""Small helpers: errors, atomic files, named random streams, threads over rows."""
