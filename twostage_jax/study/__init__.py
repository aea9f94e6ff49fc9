"""Studies: approaches, what there is to do, running a group, records and the study's folder."""
