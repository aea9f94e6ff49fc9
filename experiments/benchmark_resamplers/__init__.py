"""Our resamplers and imbalanced-learn's, timed side by side.

`cases` says what is compared, `data` makes the arrays, `work` is what each engine does with them,
`worker` times one engine on one case in a process of its own, `compare` sets the measurements
beside each other, and `report` prints them.
"""
