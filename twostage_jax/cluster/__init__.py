"""Studies on many machines, through Ray; nothing here imports Ray before it is asked for."""
